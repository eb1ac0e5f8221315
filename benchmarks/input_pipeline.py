"""Times the input pipeline: images per second with RandAugment and mixup.

    python benchmarks/input_pipeline.py --json benchmarks/results/input_pipeline.json

All rows read the same JPEGs, take Inception crops and give batches of floats in
[-1, 1]; the ratio is to decoding and cropping alone, written with plain tf.data.
CPU time per image is beside it, which other work on the machine changes less.
The rows that begin with "widenet_keras" are `training_batches`; the others apply
RandAugment as its library documents it. Without `--data`, a folder of class
folders, JPEGs of 500x375 pixels are made for the run.
"""

import statistics
import tempfile
import time
from pathlib import Path

import harness

PLAIN = "decode and crop, plain tf.data"
MADE = 128


def main():
    """Parses the command line and runs."""
    arguments = harness.parser(__doc__.splitlines()[0], devices=["cpu"])
    arguments.set_defaults(backends=["tensorflow"], repeats=5)
    arguments.add_argument("--data", metavar="FOLDER", help="folder of class folders")
    arguments.add_argument("--image-size", type=int, default=224)
    arguments.add_argument("--batch", type=int, default=128)
    arguments.add_argument("--seconds", type=float, default=4.0, help="per timing")
    arguments.add_argument(
        "--rows", nargs="+", choices=list(CASES), default=list(CASES), metavar="ROW"
    )
    arguments = arguments.parse_args()
    # The others are held against it.
    arguments.rows = [PLAIN, *(row for row in arguments.rows if row != PLAIN)]
    harness.run(__file__, arguments, measure, present, draw)


def measure(arguments):
    """Yields one row per pipeline, timed turn by turn."""
    from widenet_keras.data import open_source

    with tempfile.TemporaryDirectory() as folder:
        if arguments.data is None:
            make_images(Path(folder))
        source = open_source(arguments.data or folder, "train")
        harness.progress(f"{source.description}; building {len(arguments.rows)} rows")
        cases = {}
        for name in arguments.rows:
            try:
                cases[name] = CASES[name](source, arguments)
            except ImportError as error:
                harness.progress(f"left out: {name}: {error}")
        speeds = {name: [] for name in cases}
        costs = {name: [] for name in cases}
        for repeat in range(arguments.repeats):
            for name, dataset in cases.items():
                speed, cost = speed_and_cost(dataset, arguments)
                speeds[name].append(speed)
                costs[name].append(cost)
                harness.progress(
                    f"{repeat + 1}/{arguments.repeats} {name}: {speed:.0f} images/s"
                )
        sizes = [(Path(source.root) / f.decode()).stat().st_size for f in source.files]
    for name, found in speeds.items():
        # Each timing over the plain one of its turn, so that a slow moment of the
        # machine hits both.
        ratios = [s / p for s, p in zip(found, speeds[PLAIN], strict=True)]
        yield {
            "benchmark": "input_pipeline",
            "pipeline": name,
            "images_per_second": round(statistics.median(found), 1),
            "slowest": round(min(found), 1),
            "fastest": round(max(found), 1),
            "ratio": round(statistics.median(ratios), 3),
            "cpu_milliseconds": round(statistics.median(costs[name]), 3),
            "image_size": arguments.image_size,
            "batch": arguments.batch,
            "repeats": arguments.repeats,
            "data": Path(arguments.data).name if arguments.data else "made, 500x375",
            "kilobytes_per_image": round(statistics.mean(sizes) / 1e3, 1),
        }


def speed_and_cost(dataset, arguments):
    """Returns images per second and milliseconds of CPU time per image."""
    batches = iter(dataset)
    for _ in range(2):
        next(batches)
    start, used, count = time.perf_counter(), time.process_time(), 0
    while count == 0 or time.perf_counter() - start < arguments.seconds:
        next(batches)
        count += arguments.batch
    used = time.process_time() - used
    return count / (time.perf_counter() - start), 1e3 * used / count


def make_images(folder):
    """Writes JPEGs that cost as much to decode as ImageNet's."""
    import numpy as np
    import tensorflow as tf

    for name in ("even", "odd"):
        (folder / name).mkdir()
    random = np.random.default_rng(0)
    for index in range(MADE):
        coarse = random.uniform(0, 255, (24, 32, 3))
        fine = random.normal(0, 14, (375, 500, 3))
        image = tf.image.resize(coarse, (375, 500), "bicubic") + fine
        image = tf.cast(tf.clip_by_value(image, 0, 255), tf.uint8)
        encoded = tf.io.encode_jpeg(image, quality=88)
        name = ("even", "odd")[index % 2]
        (folder / name / f"{index}.jpg").write_bytes(encoded.numpy())


def plain_images(source, arguments):
    """Returns a data set of crops, float32 0 to 255, one by one, without end."""
    import tensorflow as tf

    root, size = source.root, arguments.image_size

    def crop(file):
        encoded = tf.io.read_file(tf.strings.join([root, file], "/"))
        begin, extent, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(encoded),
            tf.zeros((0, 0, 4)),
            min_object_covered=0.0,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.05, 1.0),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], extent[:2]], 0)
        image = tf.io.decode_and_crop_jpeg(encoded, window, channels=3)
        return tf.ensure_shape(tf.image.resize(image, (size, size)), (size, size, 3))

    files = tf.data.Dataset.from_tensor_slices(list(source.files)).repeat()
    return files.map(crop, num_parallel_calls=tf.data.AUTOTUNE)


def plain(source, arguments):
    """Returns batches of crops and nothing else."""
    images = plain_images(source, arguments).map(lambda x: x / 127.5 - 1.0)
    return images.batch(arguments.batch, drop_remainder=True).prefetch(2)


def of_this_package(**fields):
    """Returns a case that is `training_batches` with some augmentation."""

    def case(source, arguments):
        from widenet_keras.data import Augmentation, training_batches

        # More images than there are files, so that any batch size can be had.
        stream = training_batches(
            repeated(source, arguments.batch),
            arguments.image_size,
            3,
            max(source.num_classes, 1000),
            arguments.batch,
            Augmentation(**fields),
        )
        return stream.from_batch(0)

    return case


def repeated(source, least):
    """Returns a source that has every file often enough for a batch."""
    import dataclasses

    import numpy as np

    times = -(-least // source.count)
    return dataclasses.replace(
        source,
        count=times * source.count,
        files=np.tile(source.files, times),
        labels=np.tile(source.labels, times),
    )


def with_layer(make, per_image=False):
    """Returns a case in which a Keras layer applies RandAugment."""

    def case(source, arguments):
        import tensorflow as tf

        layer = make()

        def mixup(images):
            images = images / 127.5 - 1.0
            gamma = tf.random.gamma((2, arguments.batch, 1, 1, 1), 0.5)
            part = gamma[0] / (gamma[0] + gamma[1])
            return part * images + (1 - part) * tf.roll(images, 1, 0)

        images = plain_images(source, arguments)
        if per_image:
            images = images.map(layer, num_parallel_calls=tf.data.AUTOTUNE)
        images = images.batch(arguments.batch, drop_remainder=True)
        if not per_image:
            images = images.map(layer, num_parallel_calls=tf.data.AUTOTUNE)
        return images.map(mixup, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)

    return case


def keras_cv_layer():
    """Returns keras-cv's RandAugment."""
    try:
        import keras_cv
    except ImportError:
        raise ImportError("keras-cv is not installed") from None
    layer = keras_cv.layers.RandAugment((0, 255), augmentations_per_image=2)
    return lambda images: layer(images, training=True)


def keras_layer():
    """Returns Keras' own RandAugment."""
    import keras

    layer = keras.layers.RandAugment((0, 255), num_ops=2, factor=0.5)
    return lambda images: layer(images, training=True)


CASES = {
    PLAIN: plain,
    "widenet_keras, crop and flip": of_this_package(randaugment_ops=0, mixup=0.0),
    "widenet_keras, RandAugment and mixup": of_this_package(),
    "widenet_keras, its operations by keras-cv": of_this_package(
        randaugment="keras_cv"
    ),
    "keras_cv.layers.RandAugment on batches": with_layer(keras_cv_layer),
    "keras_cv.layers.RandAugment on images": with_layer(keras_cv_layer, True),
    "keras.layers.RandAugment": with_layer(keras_layer),
}


def present(rows, arguments):
    """Prints the table."""
    first = rows[0]
    print(
        f"{first['image_size']} pixels, batches of {first['batch']}, data: "
        f"{first['data']} ({first['kilobytes_per_image']} kB per image)\n"
    )
    harness.print_table(
        rows,
        {
            "pipeline": "{}",
            "images_per_second": "{:.0f}",
            "slowest": "{:.0f}",
            "fastest": "{:.0f}",
            "ratio": "{:.2f}",
            "cpu_milliseconds": "{:.2f}",
        },
    )


def draw(rows):
    """Returns the figure of the speeds."""
    figure, axis = harness.pyplot().subplots(
        figsize=(8, 0.5 * len(rows) + 1), layout="constrained"
    )
    names = [row["pipeline"] for row in rows]
    speeds = [row["images_per_second"] for row in rows]
    colors = [harness.CYCLE[0] if "widenet" in name else "#999999" for name in names]
    bars = axis.barh(range(len(names)), speeds, color=colors)
    axis.set_yticks(range(len(names)), names)
    axis.bar_label(
        bars,
        [f"{s:.0f} ({r['ratio']:.2f})" for s, r in zip(speeds, rows, strict=True)],
        padding=3,
    )
    axis.axvline(speeds[0] / 2, color="black", linestyle=":", label="half of the first")
    axis.invert_yaxis()
    axis.set_xlabel("images per second (over the first)")
    axis.set_xlim(0, 1.25 * max(speeds))
    axis.legend(loc="lower right", fontsize=9)
    return figure


if __name__ == "__main__":
    main()
