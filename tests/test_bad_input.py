"""Every common mistake is met with one clear line."""

import functools
import zipfile
from types import SimpleNamespace
from unittest.mock import MagicMock

import keras
import numpy as np
import pytest
from conftest import (
    BACKEND,
    RUN_EAGERLY,
    one_line,
    tiny_config,
    tiny_images,
    tiny_model,
)

import widenet_keras
from widenet_keras import layers
from widenet_keras.training.fit_options import checked_options
from widenet_keras.training.on_logits import labels_kind, loss_on_logits
from widenet_keras.utils.plain_errors import first_line

LABELS = np.array([0, 4, 2, 1])
TOO_HIGH = np.array([0, 5, 2, 1])
HIGH = "The labels run from 0 to 5 and the model has num_classes=5; labels must be 0 to"


@pytest.fixture(scope="module")
def model():
    """One model for all tests that do not get as far as training it."""
    model = tiny_model(steps=1)
    model.compile("sgd", run_eagerly=RUN_EAGERLY)
    return model


def expendable(**options):
    """Returns the smallest model, for tests that may leave it changed."""
    model = tiny_model("vit", steps=1)
    model.compile("sgd", run_eagerly=RUN_EAGERLY, **options)
    return model


def is_whole(model):
    """Whether the weights are there: on JAX, Keras lends them to its loops."""
    return all(weight._value is not None for weight in model.weights)


def met_with(*pieces):
    """Expects a `ValueError` of one line that has all the pieces."""
    return _MetWith(pieces)


class _MetWith:
    def __init__(self, pieces):
        self.pieces = pieces
        self.raises = pytest.raises(ValueError)  # noqa: PT011

    def __enter__(self):
        self.error = self.raises.__enter__()

    def __exit__(self, *raised):
        caught = self.raises.__exit__(*raised)
        if caught:
            line = one_line(self.error)
            assert [piece for piece in self.pieces if piece not in line] == [], line
        return caught


# Layers and configs


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny_config(num_experts=2, top_k=3),
        lambda: layers.MixtureOfExperts(2, 14, top_k=3),
        lambda: layers.TopKRouter(2, 3),
        lambda: layers.GroupedTop1Router(2, 3),
    ],
    ids=["config", "mixture", "top_k", "grouped"],
)
def test_more_choices_than_experts(make):
    with met_with("top_k=3 is more than num_experts=2"):
        make()


def test_experts_that_do_not_split_into_groups():
    with met_with("num_experts=4 does not split into top_k=3 equal groups"):
        layers.GroupedTop1Router(4, 3)


def test_mixtures_of_different_kinds_in_one_encoder():
    def block(router, name):
        part = layers.RoutedExperts(router, layers.Experts(4, 14))
        return layers.Block(layers.Attention(3), part, name=name)

    blocks = [block(layers.TopKRouter(4), "a"), block(layers.GroupedTop1Router(4), "b")]
    with met_with("Encoder", "of 2 kinds"):
        layers.Encoder(blocks, 2, sharing="none").build((None, 10, 12))


def test_a_router_with_a_call_of_its_own():
    class Hot(layers.TopKRouter):
        def call(self, tokens, draws=None):
            return super().call(tokens * 2.0)

    with met_with("RoutedExperts", "Hot", "`choose`"):
        layers.RoutedExperts(Hot(4), layers.Experts(4, 14))


def test_router_and_experts_of_different_numbers():
    with met_with("RoutedExperts", "knows 4 experts", "the bank has 3"):
        layers.RoutedExperts(layers.TopKRouter(4), layers.Experts(3, 14))


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny_config(heads=5),
        lambda: layers.Attention(5)(np.zeros((1, 2, 12), "float32")),
    ],
    ids=["config", "attention"],
)
def test_width_that_heads_do_not_divide(make):
    with met_with("width=12 is not divisible by", "heads=5"):
        make()


def test_image_that_patches_do_not_divide():
    with met_with("image_size=12 is not divisible by patch_size=5"):
        tiny_config(patch_size=5)
    with met_with("images of 8x12 are not divisible by patch_size=5"):
        layers.PatchEmbedding(12, 5)(np.zeros((1, 8, 12, 3), "float32"))
    embedding = layers.PatchEmbedding(12, 4)
    embedding(np.zeros((1, 8, 12, 3), "float32"))
    for rows, columns in ((4, 4), (12, 12), (12, 8)):
        with met_with(f"{rows}x{columns} and a position table for images of 8x12;"):
            embedding(np.zeros((1, rows, columns, 3), "float32"))


def test_images_whose_size_nobody_says():
    with met_with("NonexNone", "say their height and width"):
        layers.PatchEmbedding(12, 4)(keras.Input((None, None, 3)))
    # The model itself knows it.
    images = keras.Input((None, None, 3))
    logits, record = tiny_model(steps=1)(images, return_routing=True)
    assert logits.shape == (None, 5)
    assert record.gates.shape[0] == 1


def test_a_head_that_reads_two_tokens_of_one():
    head = layers.ClassifierHead(5, "token_and_register", representation=False)
    with met_with("reads two tokens", "there is 1"):
        head(np.zeros((2, 1, 12), "float32"))


def test_numbers_of_numpy():
    with met_with("num_classes=np.int64(5) must be a whole number >= 0; use int(...)"):
        tiny_config(num_classes=LABELS.max() + 1)
    with met_with("; use float(...)"):
        tiny_config(dropout=np.float32(0.1))


def test_plan_that_does_not_divide_the_steps():
    with met_with("WideNetConfig", "unique_blocks=2 does not divide steps=3"):
        tiny_config(steps=3, sharing="sequence", unique_blocks=2)
    blocks = [layers.Block(layers.Attention(3), layers.FeedForward(10))] * 2
    with met_with("Encoder", "unique_blocks=2 does not divide steps=3"):
        layers.Encoder(blocks, 3, sharing="sequence")


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny_config(capacity_factor=0),
        lambda: layers.MixtureOfExperts(4, 14, capacity_factor=0.0),
    ],
    ids=["config", "mixture"],
)
def test_capacity_of_nothing(make):
    with met_with("capacity_factor=0", "a number over 0, or None to drop nothing"):
        make()


@pytest.mark.parametrize(
    ("make", "piece"),
    [
        (lambda: layers.PatchEmbedding(0, 4), "PatchEmbedding: width=0"),
        (lambda: layers.PatchEmbedding(12, 4.0), "PatchEmbedding: patch_size=4.0"),
        (lambda: layers.PatchEmbedding(12, 4, 1), "PatchEmbedding: class_token=1"),
        (lambda: layers.Attention(0), "Attention: num_heads=0"),
        (lambda: layers.Attention(3, 1.0), "Attention: dropout=1.0"),
        (lambda: layers.Block(None, None, -0.1), "Block: dropout=-0.1"),
        (lambda: layers.Encoder([None], 0), "Encoder: steps=0"),
        (lambda: layers.Encoder([], 3), "Encoder: unique_blocks=0"),
        (lambda: layers.Encoder([None], 3, "al"), "Encoder: sharing='al'"),
        (lambda: layers.Encoder([None] * 2, 3), "Encoder: unique_blocks=2 contradicts"),
        (lambda: layers.Encoder([None], 3, shared_norms=0), "Encoder: shared_norms=0"),
        (
            lambda: layers.Encoder([None], 3, stochastic_depth=1),
            "Encoder: stochastic_depth=1",
        ),
        (lambda: layers.FeedForward(0), "FeedForward: hidden_dim=0"),
        (lambda: layers.FeedForward(10, "tanh"), "FeedForward: activation='tanh'"),
        (lambda: layers.Experts(0, 14), "Experts: num_experts=0"),
        (lambda: layers.Experts(4, 14, dropout=2), "Experts: dropout=2"),
        (lambda: layers.StackedNorms(0), "StackedNorms: rows=0"),
        (
            lambda: layers.PatchEmbedding(12, 4, registers=-1),
            "PatchEmbedding: registers=-1",
        ),
        (lambda: layers.PatchEmbedding(12, 4, norm=1), "PatchEmbedding: norm=1"),
        (lambda: layers.FeedForward(5, gated=1), "FeedForward: gated=1"),
        (lambda: layers.StackedNorms(3, 0.0), "StackedNorms: epsilon=0.0"),
        (lambda: layers.AttentionPooling(0, 5), "AttentionPooling: num_heads=0"),
        (
            lambda: layers.AttentionPooling(5, 5)(np.zeros((1, 3, 12), "float32")),
            "AttentionPooling: width=12 is not divisible",
        ),
        (lambda: layers.ClassifierHead(-1), "ClassifierHead: num_classes=-1"),
        (
            lambda: layers.ClassifierHead(5, "attention"),
            "ClassifierHead: pooling='attention' and attention=None",
        ),
        (
            lambda: layers.ClassifierHead(5, "token", norm_after_pooling=True),
            "ClassifierHead: norm_after_pooling=True",
        ),
        (lambda: layers.ClassifierHead(5, "max"), "ClassifierHead: pooling='max'"),
        (lambda: layers.TopKRouter(4, noise=-1.0), "TopKRouter: noise=-1.0"),
        (
            lambda: layers.MixtureOfExperts(4, 14, router="top1"),
            "MixtureOfExperts: router='top1'",
        ),
        (
            lambda: layers.MixtureOfExperts(4, 14, add_losses="no"),
            "MixtureOfExperts: add_losses='no'",
        ),
        (
            lambda: layers.MixtureOfExperts(4, 14, images_per_group=0),
            "images_per_group=0",
        ),
    ],
)
def test_wrong_arguments_of_a_layer(make, piece):
    with met_with(piece):
        make()


def test_unknown_preset():
    with met_with("There is no preset 'widenet-b16'", "Did you mean 'widenet_b16'?"):
        widenet_keras.ImageClassifier.from_preset("widenet-b16")


# Images


class Batches(keras.utils.PyDataset):
    """Two batches, of which the second may hold the mistake."""

    def __init__(self, images, labels):
        super().__init__()
        self.images, self.labels = images, labels

    @property
    def num_batches(self):
        return 2

    def __getitem__(self, index):
        return self.images[2 * index : 2 * index + 2], self.labels[
            2 * index : 2 * index + 2
        ]


def generator(images, labels):
    data = Batches(images, labels)
    yield from (data[index] for index in range(2))


def loader(images, labels):
    from torch.utils.data import DataLoader

    return DataLoader(list(zip(images, labels, strict=True)), batch_size=2)


def tf_dataset(images, labels):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(2)


SOURCES = [
    pytest.param(lambda x, y: (x, y), id="arrays"),
    pytest.param(lambda x, y: (Batches(x, y),), id="PyDataset"),
    pytest.param(lambda x, y: (generator(x, y),), id="generator"),
]
if BACKEND == "tensorflow":
    SOURCES.append(pytest.param(lambda x, y: (tf_dataset(x, y),), id="tf.data"))
if BACKEND == "torch":
    SOURCES.append(pytest.param(lambda x, y: (loader(x, y),), id="DataLoader"))
# Keras warns of a generator that it is asked to shuffle.
OPTIONS = {"fit": {"shuffle": False, "verbose": 0}, "evaluate": {"verbose": 0}}
# JAX compiles every operation anew for each batch size.
BY_TWO = {"batch_size": 2, "verbose": 0}
every_source = pytest.mark.parametrize("source", SOURCES)
every_use = pytest.mark.parametrize("use", ["fit", "evaluate"])
OTHER_IMAGES = [
    (tiny_images(size=16), "(4, 16, 16, 3)"),
    (tiny_images()[..., :1], "(4, 12, 12, 1)"),
    (tiny_images()[:, :8], "(4, 8, 12, 3)"),
    (tiny_images()[..., 0], "(4, 12, 12)"),
    (tiny_images()[0], "(12, 12, 3)"),
]
every_other_image = pytest.mark.parametrize(("images", "shape"), OTHER_IMAGES)
TAKES = "the model takes (batch, 12, 12, 3)"


@every_other_image
def test_images_of_another_shape(model, images, shape):
    for use in (model, model.predict, model.routing):
        with met_with(f"images have shape {shape}", TAKES):
            use(images)
    for use in (model.fit, model.evaluate):
        with met_with(f"images have shape {shape}", TAKES):
            use(images, LABELS[: len(images)], verbose=0)


@every_use
@every_source
def test_images_of_another_size_from_any_source(model, use, source):
    data = source(tiny_images(size=16), LABELS)
    with met_with("16, 16, 3)", TAKES):
        getattr(model, use)(*data, **OPTIONS[use])


@every_source
def test_images_of_another_size_in_predict(source):
    model = expendable()
    with met_with("16, 16, 3)", TAKES):
        model.predict(source(tiny_images(size=16), LABELS)[0], verbose=0)
    assert is_whole(model)


@every_source
def test_bytes_where_floats_are_expected(model, source):
    pixels = np.zeros((4, 12, 12, 3), "uint8")
    with met_with("The images are uint8", "widenet_keras.scale_pixels(images)"):
        model.fit(*source(pixels, LABELS), **OPTIONS["fit"])


def test_bytes_in_a_call(model):
    for use in (model, model.predict, model.routing):
        with met_with("The images are uint8", "scale_pixels"):
            use(np.zeros((1, 12, 12, 3), "uint8"))


def test_floats_into_scale_pixels():
    for images in (tiny_images(), keras.ops.convert_to_tensor(tiny_images())):
        with met_with("scale_pixels takes whole", "the images are float32"):
            widenet_keras.scale_pixels(images)


@pytest.mark.parametrize("use", ["fit", "evaluate", "predict"])
def test_pixels_that_were_made_floats(model, use):
    """As `image_dataset_from_directory` yields them."""
    images = (tiny_images() + 1) * 127.5
    labels = () if use == "predict" else (LABELS,)
    with met_with("The images run from", "to [-1, 1]", "scale_pixels"):
        getattr(model, use)(images, *labels)
    images[0, 0, 0, 0] = np.nan
    with met_with("no numbers (NaN or infinite)"):
        getattr(model, use)(images, *labels)


# Labels


@every_use
@every_source
def test_labels_outside_the_classes(model, use, source):
    with met_with(HIGH):
        getattr(model, use)(*source(tiny_images(), TOO_HIGH), **OPTIONS[use])


@every_source
def test_negative_labels(model, source):
    with met_with("The labels run from -1 to 4", "must be 0 to 4"):
        model.fit(*source(tiny_images(), LABELS - (LABELS == 0)), **OPTIONS["fit"])


@pytest.mark.parametrize(
    ("labels", "pieces"),
    [
        (TOO_HIGH.astype("float32"), ["to 5", "labels must be 0 to 4"]),
        (LABELS + np.float32(0.5) * (LABELS == 1), ["must be whole numbers and"]),
        (LABELS + np.where(LABELS == 1, np.float32(np.nan), 0), ["labels must be 0"]),
    ],
    ids=["too high", "no whole number", "no number"],
)
@every_source
def test_labels_that_are_no_integers(labels, pieces, source):
    with met_with(*pieces):
        expendable().fit(*source(tiny_images(), labels), **OPTIONS["fit"])


@every_source
def test_labels_in_columns_that_the_loss_does_not_take(source):
    columns = np.eye(5, dtype="float32")[LABELS]
    unknown = np.full_like(columns, np.nan)
    for loss, labels, words in (
        ("categorical_crossentropy", 2 * columns, "run from 0 to 2 and the loss takes"),
        ("mean_squared_error", unknown, "values that are no numbers"),
    ):
        model = expendable(loss=loss)
        with met_with(words):
            model.fit(*source(tiny_images(), labels), **OPTIONS["fit"])


@every_source
def test_labels_outside_the_classes_in_validation(source):
    model = expendable()
    data = source(tiny_images(), TOO_HIGH)
    validation = data if len(data) == 2 else data[0]
    with met_with(HIGH):
        model.fit(tiny_images(), LABELS, validation_data=validation, **BY_TWO)


@every_use
@every_source
def test_a_model_outlives_a_mistake_in_a_later_batch(use, source):
    model = expendable()
    data = source(tiny_images(), np.array([0, 4, 2, 5]))
    with met_with("to 5 and the model has num_classes=5"):
        getattr(model, use)(*data, **OPTIONS[use])
    assert is_whole(model)


@every_use
def test_labels_outside_the_classes_inside_a_graph(use):
    model = tiny_model("vit", steps=1)
    model.compile()
    with met_with(HIGH):
        getattr(model, use)(tf_dataset(tiny_images(), TOO_HIGH), **OPTIONS[use])
    with met_with("The labels are object and must be numbers"):
        getattr(model, use)(tf_dataset(tiny_images(), LABELS.astype(str)))


def test_labels_outside_the_classes_inside_a_graph_that_are_bytes():
    model = tiny_model("vit", steps=1, num_classes=300)
    model.compile(run_eagerly=RUN_EAGERLY)
    labels = (60 * LABELS).astype("uint8")
    model.evaluate(tf_dataset(tiny_images(), labels), verbose=0)
    halves = tf_dataset(tiny_images(), labels.astype("float32"))
    halves = halves.map(lambda x, y: (x, keras.ops.cast(y, "bfloat16")))
    model.evaluate(halves, verbose=0)
    with met_with("must be 0 to 299"):
        data = tf_dataset(tiny_images(), 300 + LABELS.astype("int16"))
        model.evaluate(data, verbose=0)


def test_labels_and_weights_in_bfloat16():
    labels, weights = (
        keras.ops.cast(each, "bfloat16") for each in (LABELS, np.ones(4))
    )
    model = expendable()
    model.evaluate(tiny_images(), labels, sample_weight=weights, verbose=0)
    with met_with("The labels run from 1.0 to 5.0"):
        model.evaluate(tiny_images(), labels + 1, verbose=0)


def test_weights_inside_a_graph_that_are_no_numbers():
    cast = functools.partial(keras.ops.cast, dtype="float32")
    data = tf_dataset(tiny_images(), LABELS).map(lambda x, y: (x, y, cast(y) * np.nan))
    with met_with("sample weights have values that are no numbers"):
        expendable().fit(data, verbose=0)


def test_weights_of_classes():
    # What is left out is 1 on arrays, and with Keras an error inside a graph.
    model, weights = expendable(), {"class_weight": {np.int64(1): 3.0}}
    for classes, loss, found in (
        (3, "auto", {0: 1.0, 1: 3.0, 2: 1.0}),
        (3, "categorical_crossentropy", {0: 1.0, 1: 3.0, 2: 1.0}),
        # A single logit tells 1 from 0.
        (1, "binary_crossentropy", {0: 1.0, 1: 3.0}),
        # Labels of others may be any.
        (3, "mse", {1: 3.0}),
        (0, "auto", {1: 3.0}),
    ):
        config = SimpleNamespace(num_classes=classes)
        kind = labels_kind(loss_on_logits(loss))
        like = SimpleNamespace(config=config, labels_kind=kind)
        assert checked_options("fit", (), weights, like) == {"class_weight": found}
    model.fit(tiny_images(), LABELS, **weights, verbose=0)
    for wrong in ("roses", "0", 5, -1):
        for use in (model.fit, model.train_on_batch):
            with met_with(f"class_weight has {wrong!r}", "0 to 4"):
                use(tiny_images(), LABELS, class_weight={wrong: 2.0})


@every_source
def test_labels_with_a_wrong_number_of_columns(source):
    model = expendable(loss="categorical_crossentropy")
    labels = np.eye(7, dtype="float32")[LABELS]
    with met_with("The labels have 7 columns", "num_classes=5"):
        model.fit(*source(tiny_images(), labels), **OPTIONS["fit"])


@pytest.mark.parametrize(
    "labels",
    [np.array([0.0, 1.0, np.nan, 2.0]), np.array(["a", "b", "c", "d"]), None],
    ids=["not a number", "text", "none"],
)
def test_labels_that_are_none(labels):
    with met_with("labels"):
        expendable().fit(tiny_images(), labels, **BY_TWO)


def test_moments_in_half_precision():
    model = tiny_model("vit", steps=1, dtype="bfloat16")
    model.compile("adam")
    with met_with("beta_2=0.999 is 1", "train in mixed_bfloat16"):
        model.fit(tiny_images(), LABELS, **BY_TWO)
    # What bfloat16 can tell from 1 is the user's choice.
    model.compile(keras.optimizers.Lion(1e-4))
    model.fit(tiny_images(), LABELS, **BY_TWO)
    better = model.adapted(dtype="mixed_bfloat16")
    better.compile("adam")
    better.fit(tiny_images(), LABELS, **BY_TWO)


@pytest.mark.parametrize("count", [3, 5])
def test_another_number_of_labels_than_images(model, count):
    labels = np.zeros(count, "int32")
    for use in (model.fit, model.evaluate):
        with met_with(f"There are 4 images and {count} labels", "one label per image"):
            use(tiny_images(), labels, verbose=0)
    with met_with(f"There are 4 images and {count} labels"):
        data = (tiny_images(), labels)
        model.fit(tiny_images(), LABELS, validation_data=data, verbose=0)


def test_good_data_passes_every_check(model):
    start = model.get_weights()
    for source in (Batches, generator):
        model.evaluate(source(tiny_images(), LABELS), steps=2, verbose=0)
    model.evaluate(tiny_images(), LABELS[:, None], **BY_TWO)
    assert model.predict(tiny_images(), **BY_TWO).shape == (4, 5)
    for before, after in zip(start, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


# Losses, files, routing


@pytest.mark.parametrize(
    "loss",
    [keras.losses.SparseCategoricalCrossentropy, keras.losses.BinaryCrossentropy],
)
def test_a_loss_that_expects_probabilities(loss):
    model = tiny_model("vit", steps=1)
    with met_with(
        f"compile: {loss.__name__} has from_logits=False", "from_logits=True"
    ):
        model.compile(loss=loss())
    model.compile(loss=loss(from_logits=True))


def text_file(folder):
    path = folder / "model.keras"
    path.write_text("hello")
    return path, "is not a Keras model"


def other_suffix(folder):
    path = folder / "model.txt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "")
    return path, "is not a Keras model"


def missing_file(folder):
    return folder / "model.keras", "does not exist"


def a_folder(folder):
    path = folder / "model.keras"
    path.mkdir()
    return path, "is a folder"


def other_archive(folder):
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    return path, "zip archive without model.weights.h5"


def broken_archive(folder):
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "")
    return path, "Keras model"


def half_a_file(folder):
    path = folder / "model.keras"
    tiny_model("vit", steps=1).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    return path, "is not a Keras model"


@pytest.mark.parametrize("as_text", [False, True], ids=["Path", "str"])
@pytest.mark.parametrize(
    "make",
    [
        text_file,
        other_suffix,
        missing_file,
        a_folder,
        other_archive,
        broken_archive,
        half_a_file,
    ],
)
def test_a_file_that_is_no_model(tmp_path, make, as_text):
    path, piece = make(tmp_path)
    with met_with(str(path), piece):
        widenet_keras.load_model(str(path) if as_text else path)


def test_a_file_that_may_not_be_read_is_told_as_such(tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    tiny_model("vit", steps=1).save(path)
    opened = open

    def refusing(file, *given, **named):
        if file == path:
            raise PermissionError(13, "Permission denied", str(file))
        return opened(file, *given, **named)

    # Whoever runs the tests may be allowed to read everything.
    monkeypatch.setattr("builtins.open", refusing)
    with pytest.raises(PermissionError, match=r"model\.keras"):
        widenet_keras.load_model(path)


def test_routing_of_a_model_without_experts():
    with met_with("has no mixture of experts", "moe_blocks='none'"):
        tiny_model("vit", steps=1).routing(tiny_images())


def test_plot_routing_with_a_wrong_index(model):
    images = tiny_images(2)
    with met_with("plot_routing: index=2 of 2 images"):
        widenet_keras.plot.plot_routing(model.routing(images), images, index=2)


@pytest.mark.parametrize("image_size", [13, 0])
def test_with_image_size_that_patches_do_not_divide(model, image_size):
    with met_with(f"WideNetConfig: image_size={image_size}"):
        model.with_image_size(image_size)


def test_an_error_of_a_framework_in_one_line():
    assert first_line(ValueError("\nno such file\nat 0x7f")) == "no such file"
    assert first_line(KeyError()) == "KeyError"


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_stream_is_checked_before_a_batch_is_handed_out(ahead, monkeypatch):
    """On an accelerator one batch ahead, so that no check waits for a step."""
    from widenet_keras.training import data_checks

    monkeypatch.setattr(data_checks, "is_on_accelerator", lambda _: bool(ahead))
    taken = []

    def batches():
        for number in range(4):
            taken.append(number)
            images = tiny_images(2) * (np.nan if number == 3 else 1)
            yield keras.ops.convert_to_tensor(images), np.array([0, 1])

    stream, _ = data_checks.checked_data(batches(), None, tiny_config())
    for number in range(3):
        images, labels = next(stream)
        assert images.shape == (2, 12, 12, 3)
        assert list(labels) == [0, 1]
        assert taken == list(range(number + 1 + ahead))
    with pytest.raises(ValueError, match="no numbers"):
        next(stream)


def test_a_stream_is_asked_for_no_batch_too_many(monkeypatch):
    """And may fill the same memory again."""
    from widenet_keras.training import data_checks

    monkeypatch.setattr(data_checks, "is_on_accelerator", lambda _: True)
    taken = []
    images = keras.Variable(np.zeros((2, 12, 12, 3), "float32"), trainable=False)

    def batches():
        for number in range(9):
            taken.append(number)
            images.assign(np.full(images.shape, number / 10, "float32"))
            yield images.value, np.array([0, 1])

    how = {"most": 4}
    stream, _ = data_checks.checked_data(batches(), None, tiny_config(), **how)
    found = [float(keras.ops.max(next(stream)[0])) for _ in range(4)]
    np.testing.assert_allclose(found, [0.0, 0.1, 0.2, 0.3], atol=1e-6)
    assert taken == [0, 1, 2, 3]
    if BACKEND == "tensorflow":
        # There Keras itself takes more.
        return
    model = tiny_model("vit")
    model.compile()
    del taken[:]
    model.fit(batches(), steps_per_epoch=2, epochs=2, verbose=0)
    assert taken == [0, 1, 2, 3]


def test_copies_to_the_host_are_what_they_were(monkeypatch):
    from widenet_keras.utils import host_copies

    if BACKEND == "torch":
        # As from a GPU, whose event is of its device.
        monkeypatch.setattr(
            host_copies, "is_on_accelerator", keras.ops.is_tensor, raising=True
        )
        monkeypatch.setattr("torch.Event", lambda _: MagicMock())
        monkeypatch.setattr("torch.accelerator.current_stream", lambda _: None)
    tensor = keras.ops.convert_to_tensor(np.arange(3.0))
    found = host_copies.copies_begun([tensor, None, [1, 2], "text"])()
    assert all(isinstance(each, np.ndarray) for each in (found[0], *found[2:]))
    np.testing.assert_array_equal(found[0], [0, 1, 2])
    np.testing.assert_array_equal(found[2], [1, 2])
    assert found[1] is None
    assert found[3] == "text"


def test_validation_of_a_dict_keeps_its_labels():
    model, data = expendable(), {"image": tiny_images(), "label": LABELS}
    history = model.fit(data, validation_data=data, **BY_TWO).history
    wanted = model.evaluate(tiny_images(), LABELS, return_dict=True, verbose=0)
    np.testing.assert_allclose(history["val_loss"][-1], wanted["loss"], rtol=1e-5)
