"""What is minimised, and what is reported beside it. The same on all backends."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from widenet_keras.routing.record import RoutingRecord
from widenet_keras.training.teachers import answers
from widenet_keras.training.terms import Forward, Term, looking, variables_of
from widenet_keras.utils.types import Tensor


class TrainingLoss(NamedTuple):
    """What a batch is minimised by, and what is reported of it.

    Attributes:
        total: Scalar; the loss.
        task: Scalar; the task loss.
        terms: Dict from the names of the terms to scalars.
        logits: (B, classes).
        record: `RoutingRecord`, or `()` without experts.
    """

    total: object
    task: object
    terms: dict
    logits: object
    record: object


class Objective:
    """Mixin: task loss plus weighted auxiliary losses, and their trackers.

    total loss = task loss + balance_loss_weight * sum over the steps of the
    balance loss + router_z_loss_weight * sum over the steps of the z-loss.
    Source: "Go Wider Instead of Deeper", total loss. Terms that `compile` was given
    are added, see `Term`.

    Reported besides Keras' own `loss` and metrics:
        task_loss: The compiled loss (and regularisers) alone.
        balance_loss: Summed over the S routed steps; S at perfect balance.
        router_z_loss: Summed over the steps, if its weight is not 0.
        dropped_fraction: Fraction of choices over capacity, mean of the steps.
        utilization: Load of the busiest expert over the fair load, mean of the
            steps: 1.0 is fair, E/K the worst.
        dead_experts: Experts that no token of a batch chose at any step.
        <name>_loss: A term, in training alone.
    """

    _terms, _term_trackers, _trains = (), {}, True
    _until_evaluated = None

    def make_trackers(self) -> None:
        """Makes the trackers; `build` calls it once, before it locks the model."""
        names = ["task_loss"]
        if self.config.routed_steps:
            names += ["balance_loss", "dropped_fraction", "utilization", "dead_experts"]
            if self.config.router_z_loss_weight:
                names.append("router_z_loss")
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Those of Keras; none where only a model around this one is trained."""
        if not self.compiled:
            return []
        trackers = self._term_trackers.values() if self._trains else ()
        return [*super().metrics, *trackers]

    def set_terms(self, terms: tuple[Term, ...]) -> None:
        """Takes the terms of what is compiled, and makes their trackers.

        Args:
            terms: Tuple of `Term`.
        """
        # Not as attributes, in which Keras would find a teacher as a part of the model
        # and trackers that are reported by an evaluation.
        vars(self)["_terms"] = terms
        vars(self)["_term_trackers"] = {
            term.name: keras.metrics.Mean(name=f"{term.name}_loss") for term in terms
        }

    @property
    def term_variables(self) -> list[keras.Variable]:
        """Variables that training reads and that are not the model's: a teacher's."""
        trains = self.compiled and self._trains
        return variables_of(self._terms) if trains else []

    @contextlib.contextmanager
    def without_terms(self) -> Iterator[None]:
        """Context in which nothing is trained: no term is computed or reported."""
        before, vars(self)["_trains"] = self._trains, False
        try:
            yield
        finally:
            vars(self)["_trains"] = before

    def get_state_tree(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As that of Keras, which files are made of: without a teacher."""
        with self.without_terms():
            return super().get_state_tree(*args, **kwargs)

    def made_of(self, images: object, training: bool) -> Forward:
        """Makes a forward pass; in training it sees what terms look at.

        Args:
            images: (B, height, width, channels).
            training: As for the model.
        """
        look = looking(self, training and any(term.looks for term in self._terms))
        return Forward(*self(images, training=training, return_routing=True, **look))

    def training_loss(
        self,
        forward: Callable[[], Forward],
        task_loss: Callable,
        images: object,
        sample_weight: object,
    ) -> TrainingLoss:
        """Returns the `TrainingLoss` of a batch, or of a replica's part of it.

        Each term is a mean over these images, as the task loss is; what is reported
        of routing is that of the first pass.

        Args:
            forward: Function of nothing; makes a forward pass with draws of its own
                and returns its `Forward`, with the record of the global batch.
            task_loss: Function of logits.
            images: (B, height, width, channels).
            sample_weight: (B,) or None.
        """
        made = [forward()]
        first, terms = made[0], {}
        loss = total = task_loss(first.logits)

        def again():
            made.append(forward())
            return made[-1]

        answer_of = answers(self._terms, images)
        for term in self._terms:
            terms[term.name] = term(answer_of, sample_weight, first, again)
            total = total * term.task_factor
        auxiliary = self.auxiliary_loss(first.record)
        if len(made) > 1:
            others = (self.auxiliary_loss(each.record) for each in made[1:])
            auxiliary = sum(others, auxiliary) / len(made)
        total = sum(terms.values(), total + auxiliary)
        return TrainingLoss(total, loss, terms, first.logits, first.record)

    @contextlib.contextmanager
    def evaluates(self) -> Iterator[None]:
        """Context of evaluation and prediction; an error leaves the weights."""
        before = self._until_evaluated
        with contextlib.ExitStack() as stack, self.without_terms():
            vars(self)["_until_evaluated"] = stack
            try:
                yield
            finally:
                vars(self)["_until_evaluated"] = before

    def until_evaluated(self, context: AbstractContextManager) -> None:
        """Enters a context that ends with the evaluation, or with its error."""
        self._until_evaluated.enter_context(context)

    def whole_batches(self, data_of_own_rows: Any = None) -> AbstractContextManager:
        """Context in which several processes train or evaluate one model.

        Args:
            data_of_own_rows: The data of which this process has its own rows of every
                batch; of all others it has whole batches.
        """
        return contextlib.nullcontext()

    def unshare_buffers(self) -> None:
        """Gives every variable memory of its own; on most backends it has that."""

    def check_training(self, optimizer: Any, loss: Any) -> None:
        """Raises `ValueError` if optimizer or loss cannot train over these devices.

        Args:
            optimizer: A Keras optimizer, or None.
            loss: A loss, or what Keras takes for one.
        """

    def check_devices(self, term: Term) -> None:
        """Raises `ValueError` if what a term reads is not where the model is.

        Args:
            term: A `Term`.
        """

    def track(
        self,
        task_loss: Tensor,
        record: RoutingRecord | tuple,
        batch_size: Any,
        terms: dict[str, Tensor] | None = None,
    ) -> None:
        """Updates the trackers with one batch.

        Args:
            task_loss: Scalar.
            record: `RoutingRecord`, or `()` without experts.
            batch_size: Images of the batch; the weight of its values.
            terms: Dict from the names of the terms to scalars, in training.
        """
        values = {"task_loss": task_loss, **(terms or {})}
        if record:
            values |= self._routing_facts(record)
        trackers = {**self.trackers, **(self._term_trackers if terms else {})}
        for name, tracker in trackers.items():
            tracker.update_state(values[name], sample_weight=batch_size)

    def _routing_facts(self, record):
        """Scalars of a routing record, by the name they are reported under."""
        fraction = record.expert_fraction  # (S, E)
        # (U', S) maps steps to the U' banks that they read.
        banks = self.config.routed_banks
        reads = np.equal.outer(np.unique(banks), banks).astype("float32")
        bank_load = ops.matmul(ops.convert_to_tensor(reads), fraction)
        busiest = ops.max(fraction, axis=-1) * self.config.num_experts
        return {
            "balance_loss": ops.sum(record.balance_loss),
            "router_z_loss": ops.sum(record.z_loss),
            "dropped_fraction": ops.mean(record.dropped_fraction),
            "utilization": ops.mean(busiest),
            "dead_experts": ops.sum(ops.cast(ops.equal(bank_load, 0.0), "float32")),
        }
