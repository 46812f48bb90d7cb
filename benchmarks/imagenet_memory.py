"""Memory of an ImageNet run against the size of the data set, and the speed of reading its images.

Run:     python benchmarks/imagenet_memory.py [--threads 2] [--batch 256] [--images 2000 8000]
         [--peer_python=PATH_TO_A_PYTHON_WITH_TORCHVISION [--repeats 5]]
Does:    makes trees of JPEG images (500 x 375, like ImageNet's), and reads an epoch of training batches of each in a
         process of its own, as `imagenet2012` does. Peak is the most resident memory of the process; before is what it
         has once the tree is listed. Core time is that of all threads together, which other load disturbs less.
Beside:  a plain loop over the same images in one thread (decode, crop, resize); and, with a peer, torchvision's
         ImageFolder and DataLoader in one process, in turn with ours: ratios of images a second of processor time.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import numpy as np

NUM_CLASSES = 20
DISTINCT = 50  # pictures; each is written under many names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 8000])
    parser.add_argument("--peer_python")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read_epoch(arguments.read, threads=arguments.threads, batch=arguments.batch)))
        return
    contents = pictures()
    print(
        f"{len(contents)} pictures of {np.mean([len(c) for c in contents]) / 1000:.0f} kB, {arguments.threads} threads"
    )
    print(f"plain loop in one thread: {plain_loop(contents)}")
    for number in arguments.images:
        with tempfile.TemporaryDirectory() as folder:
            write_tree(Path(folder), contents, number)
            options = [f"--threads={arguments.threads}", f"--batch={arguments.batch}", f"--read={folder}"]
            seen = answer([sys.executable, __file__, *options])
            if arguments.peer_python and number == arguments.images[0]:
                peer = [arguments.peer_python, Path(__file__).parent / "peers" / "torchvision_loader.py", folder]
                beside_torchvision(
                    [sys.executable, __file__, *options], [*peer, str(arguments.batch)], arguments.repeats
                )
        print(
            f"{number:6,} images, batches of {arguments.batch}: peak {seen['peak']:.0f} MB, "
            f"before {seen['before']:.0f} MB, {seen['rate']}, first batch after {seen['first']:.2f} s"
        )


def answer(command: list) -> dict:
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def beside_torchvision(ours: list, peer: list, repeats: int) -> None:
    """Read the same folder in turn, and print how many images each gives a second of processor time."""
    rates = [(answer(ours)["core"], answer(peer)["core"]) for _ in range(repeats)]
    medians = [statistics.median(each) for each in zip(*rates, strict=True)]
    text = harness.ratio(*zip(*rates, strict=True))
    print(f"images a second and core: ours {medians[0]:.0f}, torchvision {medians[1]:.0f}; ratio {text}", flush=True)


def pictures() -> list[bytes]:
    """Make JPEG images of about 60 kB: smooth colours and some noise."""
    import cv2
    import simplejpeg

    random, contents = np.random.default_rng(0), []
    for _ in range(DISTINCT):
        smooth = cv2.resize(
            random.integers(0, 256, (24, 32, 3), dtype=np.uint8), (500, 375), interpolation=cv2.INTER_CUBIC
        )
        noise = cv2.resize(random.normal(0, 12, (188, 250, 3)), (500, 375))
        image = np.clip(smooth + noise, 0, 255).astype(np.uint8)
        contents.append(simplejpeg.encode_jpeg(image, quality=90, colorsubsampling="420"))
    return contents


def write_tree(root: Path, contents: list[bytes], number: int) -> None:
    for part, count in (("train", number), ("val", NUM_CLASSES)):
        for index in range(count):
            folder = root / part / f"n{index % NUM_CLASSES:08}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index:08}.JPEG").write_bytes(contents[index % len(contents)])


def plain_loop(contents: list[bytes]) -> str:
    from flatwide.data import images

    number, clocks = 20 * len(contents), (time.perf_counter(), time.process_time())
    for index in range(number):
        image = images.decode(contents[index % len(contents)], location="")
        images.training_view(image, np.random.default_rng(index))
    return rate(number, *clocks)


def rate(number: int, wall_start: float, core_start: float) -> str:
    wall, core = time.perf_counter() - wall_start, time.process_time() - core_start
    return f"{number / wall:.0f} images/s, {1000 * core / number:.2f} ms of core time each"


def read_epoch(folder: str, *, threads: int, batch: int) -> dict[str, float | str]:
    from flatwide.data.image_folder import imagenet2012

    train = imagenet2012(data_dir=folder, threads=threads).train
    order = np.random.default_rng(0).permutation(train.num_examples)
    before, clocks, first = peak_megabytes(), (time.perf_counter(), time.process_time()), 0.0
    for _ in train.batches(batch, order=order, seed=0, epoch=0, train=True):
        first = first or time.perf_counter() - clocks[0]
    core = train.num_examples / (time.process_time() - clocks[1])
    text = rate(train.num_examples, *clocks)
    return {"before": before, "peak": peak_megabytes(), "rate": text, "first": first, "core": core}


def peak_megabytes() -> float:
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
