"""What an exported file answers, beside what the model answers."""

import sys
import time
from math import exp, fsum, lgamma, log, log1p

import numpy as np

from widenet_keras.exports.export_report import ExportReport
from widenet_keras.inference.opening import open_predictor
from widenet_keras.utils.memory import weight_of

# Floats differ by the order of their sums; what is rounded keeps its top classes.
_LARGEST_DIFFERENCE = 1e-4
# Two experts may be as good as equal for a token of one image in a hundred: then the
# order of a sum decides which one it is, and the logits show it.
_NEARLY_TIED = 0.01
_AGREEMENT = {"float16": 0.995, "dynamic_int8": 0.99, "int8": 0.95}
_SIGNIFICANT = 0.05


def report_on(fresh, path, options, images, logits, model, operators):
    """Returns the `ExportReport` of a file that was just written.

    Args:
        fresh: Where the file is now.
        path: Where it will be.
        options: `Options`.
        images: (B, height, width, channels) float32.
        logits: (B, classes), the model's own.
        model: The model.
        operators: Dict of operators to counts.

    Raises:
        RuntimeError: If the file has no answers.
    """
    # Made here, with the operations that an engine of the user's may add, and of a
    # model that is in memory.
    predictor = open_predictor(fresh, trust=True, max_memory=sys.maxsize)
    step = options.batch_size or 32
    try:
        found = np.concatenate(
            [
                predictor.logits(images[first : first + step])
                for first in range(0, len(images), step)
            ]
        )
    except ValueError as error:
        # Its line is about a file that somebody has, at another path.
        raise RuntimeError(
            f"The {options.format} export (quantize={options.quantize}) cannot be run, "
            f"or answers with what are no numbers; {path} was not written. Quantize "
            "less, or use another format."
        ) from error
    differences = np.abs(found - logits).max(axis=-1)
    # Not `differences > ...`, so that NaN counts.
    far = ~(differences <= _LARGEST_DIFFERENCE)
    one = images[: options.batch_size or 1]
    return ExportReport(
        path=path,
        format=options.format,
        quantize=options.quantize,
        size=weight_of(fresh),
        parameter_bytes=4 * model.count_params(),
        operators=operators,
        images=len(images),
        batch=options.batch_size or 1,
        largest_difference=float(differences.max()),
        far=int(far.sum()),
        agreement=float((found.argmax(-1) == logits.argmax(-1)).mean()),
        latency=latency(lambda: predictor.logits(one)),
        output=model.config.output_name,
    )


def check(report, rounded=None, min_agreement=None, random_images=False):
    """Raises `RuntimeError` unless an export answers as its model does.

    Float exports: every logit within 1e-4, but for one image in a hundred, which
    must keep its top class.

    Others are to have the model's top class on 99.5 % (float16), 99 % (dynamic_int8)
    or 95 % (int8) of all images. The images here are a sample of these, so a lower
    share of them is no proof: an export is refused where a file that just keeps to the
    bound would do as badly in less than one sample out of twenty (the one-sided 5 %
    limit of Clopper and Pearson), and one image may always differ. A bound that is
    given holds for the sample itself.

    Of a model without classes the place of the largest feature stands for the top
    class: of rounded files nothing else of the features is held to a bound, and of one
    feature alone nothing.

    Args:
        report: `ExportReport`.
        rounded: What the model was quantised to before, or None; "int8" is held to
            what "dynamic_int8" is.
        min_agreement: Fraction of the images that must keep their top class, or None.
        random_images: Whether the images are noise, for the message.
    """
    name = f"The {report.format} export (quantize={report.quantize})"
    if report.quantize == "none" and rounded is None:
        tied = report.far <= _NEARLY_TIED * report.images and report.agreement == 1.0
        if report.far and not (tied and np.isfinite(report.largest_difference)):
            raise RuntimeError(
                f"{name} differs from the model by {report.largest_difference:.2g} in "
                f"the {report.output}, over the allowed {_LARGEST_DIFFERENCE:g}; "
                f"{report.path} was not written."
            )
        return
    if not np.isfinite(report.largest_difference):
        raise RuntimeError(
            f"{name} has {report.output} that are no numbers; {report.path} was not "
            "written. Quantize less."
        )
    wrong = round((1 - report.agreement) * report.images)
    if min_agreement is None:
        bound = _AGREEMENT["dynamic_int8" if rounded else report.quantize]
        unlikely = chance(wrong, report.images, 1 - bound) < _SIGNIFICANT
        refused = wrong > 1 and unlikely
        under = f"which is significantly under {100 * bound:.1f} %"
    else:
        refused = report.agreement < min_agreement
        under = f"under the {100 * min_agreement:.2f} % asked for"
    if refused:
        better = "Quantize less"
        if random_images:
            better = "Give real images (images, --data), quantize less"
        raise RuntimeError(
            f"{name} has the model's {report.largest} on {report.images - wrong} of "
            f"{report.images} images ({100 * report.agreement:.2f} %), {under}; "
            f"{report.path} was not written. {better}, or accept it with a lower "
            "min_agreement (--min-agreement)."
        )


def chance(wrong, images, rate):
    """Returns the probability of so many wrong images, or more, where each may be.

    Args:
        wrong: Number of wrong images.
        images: Number of images.
        rate: Probability that an image is wrong.
    """
    if wrong == 0 or rate >= 1:
        return 1.0

    def log_of(k):
        ways = lgamma(images + 1) - lgamma(k + 1) - lgamma(images - k + 1)
        return ways + k * log(rate) + (images - k) * log1p(-rate)

    return fsum(exp(log_of(k)) for k in range(wrong, images + 1))


def latency(call, seconds=2.0, most=50):
    """Returns the median milliseconds of a call.

    Args:
        call: Function without arguments; it is warmed up first.
        seconds: About how long to measure.
        most: How many calls at most.
    """
    call()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or (len(times) < most and time.perf_counter() < end):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))
