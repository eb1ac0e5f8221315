"""Random numbers on torch: the seed of a forward pass, and what is drawn from it."""

import math
import weakref

import torch
from keras.src.backend.torch.core import get_device

from widenet_keras.utils import random_bits

_SEEDS = 2**32
# By seed generator: the sum of its last seed, and which state that one left.
_counted = weakref.WeakKeyDictionary()


def first_seed(generator):
    """Returns the next seed of a `keras.random.SeedGenerator`, an integer.

    A GPU is waited for by who reads it, and then has nothing to do. So its state, which
    counts up by one, is read once and again only if somebody else has written it.
    """
    state = generator.state._value
    known, written = _counted.get(generator, (0, None)), state._version
    seed = generator.next()
    if seed.is_meta:
        return 0
    count = known[0] + 1 if known[1] == (id(state), written) else sum(seed.tolist())
    _counted[generator] = count, (id(state), state._version)
    return count % _SEEDS


def moved_seed(seed, number, by):
    """Returns another seed; what it draws is what Keras' pair draws, which it adds up.

    Args:
        seed: An integer, or a `Seed`.
        number: An integer.
        by: How far a number is from the next.
    """
    if isinstance(seed, Seed):
        return Seed(seed.start, moved_seed(seed.offset, number, by))
    return (seed + (number * by & 0x7FFFFFFF)) % _SEEDS


def seeds_at(seed, offsets):
    """Returns a seed for each of a list of integers."""
    return [moved_seed(seed, offset, 1) for offset in offsets]


class Seed:
    """A seed inside a program, which is compiled for all values of a tensor.

    Args:
        start: () int64 on the host.
        offset: An integer that is added.
    """

    def __init__(self, start, offset=0):
        self.start = start
        self.offset = offset

    def value(self):
        """Returns the seed as an integer."""
        return (int(self.start) + self.offset) % _SEEDS


def uniform(shape, seed):
    """Returns float32 numbers from 0 to 1."""
    if isinstance(seed, Seed):
        return _uniform_op(shape, seed.start, seed.offset)
    return torch.empty(shape, device=get_device()).uniform_(generator=_drawing(seed))


def normal(shape, seed, stddev):
    """Returns float32 numbers of a standard deviation around 0."""
    if isinstance(seed, Seed):
        return _normal_op(shape, seed.start, seed.offset, stddev)
    empty = torch.empty(shape, device=get_device())
    return empty.normal_(0.0, stddev, generator=_drawing(seed))


def dropped(x, seed, rate):
    """Returns `x` with entries dropped at a rate and the others scaled up.

    On GPUs entries share random words, see `random_bits`.
    """
    if x.is_meta:
        return x
    if shares_words(x):
        return x * _kept_of_words(x, seed, rate)
    if isinstance(seed, Seed):
        return x * _kept_op(x.detach(), seed.start, seed.offset, rate)
    return x * _kept(x, seed, rate)


def shares_words(x):
    """Whether the entries of a tensor share random words in dropout."""
    return x.is_cuda


def _kept_of_words(x, seed, rate):
    bits = random_bits.bits_for(rate)
    limit, scale = random_bits.limit_and_scale(rate, bits)
    # Signed, as the bits are here.
    kept = _bits(x.shape, seed, bits, x.device) >= limit - 2 ** (bits - 1)
    return kept.to(x.dtype) * scale


def _bits(shape, seed, bits, device):
    """Returns signed integers of so many random bits.

    They follow from seed and place alone, so that a program has them without a
    generator, which Python calls for longer than a GPU takes to draw.
    """
    count = math.prod(shape)
    places = torch.arange(-(-count * bits // 32), dtype=torch.int32, device=device)
    if isinstance(seed, Seed):
        # Where the words are made; a number of the host would be one for a compiler.
        start = torch.zeros((), dtype=torch.int64, device=device)
        start = start + seed.start + seed.offset
    else:
        start = torch.tensor(seed)
    words = _words(places, start)
    return words.view(getattr(torch, f"int{bits}"))[:count].view(shape)


def _words(places, seed):
    """Returns a random int32 word for each place.

    Source: "triple32" of github.com/skeeto/hash-prospector, whose bias is that of a
    random permutation; the seed enters before its first and its second product.

    Args:
        places: int32.
        seed: () int64.
    """
    first = _mixed(seed.to(torch.int32), 0, 0)
    second = _mixed(first + 0x1E3779B9, 0, 0)
    return _mixed(places, first, second)


def _mixed(words, first, second):
    words = _folded(words ^ first, 17) * -0x12A52B45
    words = (_folded(words, 11) ^ second) * -0x53B3E4AF
    return _folded(_folded(words, 15) * 0x31848BAB, 14)


def _folded(words, by):
    # Shifts of signed words repeat the sign, which is masked.
    return words ^ (words >> by & (1 << 32 - by) - 1)


def _kept(x, seed, rate):
    keep = torch.empty_like(x).bernoulli_(1.0 - rate, generator=_drawing(seed))
    return keep.div_(1.0 - rate)


# Generators do not exist for a compiler: for it, draws are operators. Not of
# `custom_op`, which takes twice as long to call.
_LIBRARY = torch.library.Library("widenet_keras", "FRAGMENT")


def _operator(arguments, function, like):
    """Returns an operator of arguments, a seed and an offset, and what else is said.

    Args:
        arguments: The signature, as torch writes it.
        function: What computes it.
        like: The same, of shapes only.
    """
    name = arguments.split("(")[0]
    _LIBRARY.define(f"{arguments} -> Tensor")
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"widenet_keras::{name}", like, lib=_LIBRARY)
    return getattr(torch.ops.widenet_keras, name).default


def _blank(shape, *_):
    return torch.empty(shape, device=get_device())


_uniform_op = _operator(
    "uniform(SymInt[] shape, Tensor start, int offset)",
    lambda shape, start, offset: uniform(shape, Seed(start, offset).value()),
    _blank,
)
_normal_op = _operator(
    "normal(SymInt[] shape, Tensor start, int offset, float stddev)",
    lambda shape, start, offset, stddev: normal(
        shape, Seed(start, offset).value(), stddev
    ),
    _blank,
)
_kept_op = _operator(
    "kept(Tensor x, Tensor start, int offset, float rate)",
    lambda x, start, offset, rate: _kept(x, Seed(start, offset).value(), rate),
    lambda x, *_: torch.empty_like(x),
)


def _drawing(seed):
    """Returns a generator of one draw; None where nothing is computed."""
    device = get_device()
    return None if device == "meta" else torch.Generator(device).manual_seed(seed)
