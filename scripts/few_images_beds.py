"""The networks and images that scripts/few_images.py measures on.

A bed is a trained network, images to calibrate with (never with labels) and test images. Test images are read once into
a work folder and prepared as the network was trained, by code that shares nothing with the tool.
"""

import gzip
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
DATASET = Path("/usr/share/datasets/fashion-mnist")
FAMILIES = ["resnet", "mobilenetv2", "vgg", "convnext", "repvgg", "deit"]
NAMES = ["cifar", "imagenet", "resnet20", *(f"fmnist-{family}" for family in FAMILIES)]
# CIFAR-10 folders hold 800 training images a class; a draw takes images draw·STEP onwards of each class.
DRAW_STEP = 250
CIFAR_TEST = 200
RESNET20 = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "rescale": 1 / 255, "size": 32, "crop": False}


@dataclass
class Bed:
    """A network with its images; `images` holds bytes [N, H, W, C] and `labels` the classes of the test images."""

    name: str
    model: Path
    preprocess: str
    recipe: dict
    images: numpy.ndarray
    labels: numpy.ndarray
    top1: float

    def prepared(self, images):
        """Images as f32 [N, C, H, W], as the network was trained."""
        pixels = images.astype(numpy.float32)
        size = self.recipe.get("size")
        if size and pixels.shape[1] != size:
            enlarge = bilinear(pixels.shape[1], size)
            pixels = numpy.einsum("ih,nhwc,jw->nijc", enlarge, pixels, enlarge, optimize=True)
        mean, std = (numpy.array(self.recipe[key], numpy.float32) for key in ("mean", "std"))
        return numpy.ascontiguousarray(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2), numpy.float32)


def bilinear(before, after):
    """The matrix [after, before] of bilinear scaling with half-pixel centres and no antialiasing."""
    place = numpy.clip((numpy.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    low = numpy.minimum(place.astype(int), before - 2)
    matrix = numpy.zeros((after, before), numpy.float32)
    matrix[numpy.arange(after), low] = 1 - (place - low)
    matrix[numpy.arange(after), low + 1] = place - low
    return matrix


def load(name, shared, work):
    """The bed of this name; `shared` has models/trained and data, `work` keeps the decoded images."""
    work.mkdir(parents=True, exist_ok=True)
    trained = shared / "models" / "trained"
    if name.startswith("fmnist-"):
        return fmnist(name, work)
    if name == "imagenet":
        model = trained / "imagenet_efficientnet_lite0.bn.onnx"
        recipe = trained / "imagenet_efficientnet_lite0.preprocess.json"
        images, labels = cached(work / "imagenet", lambda: imagenet_test(shared))
        return Bed(name, model, str(recipe), json.loads(recipe.read_text()), images, labels, 88.4)
    images, labels = cached(work / "cifar", lambda: cifar_test(shared))
    if name == "resnet20":
        recipe = work / "resnet20.preprocess.json"
        recipe.write_text(json.dumps(RESNET20))
        return Bed(name, trained / "cifar10_resnet20.bn.onnx", str(recipe), RESNET20, images, labels, 87.7)
    model = trained / "cifar10_efficientnet_lite0_128.bn.onnx"
    recipe = trained / "cifar10_efficientnet_lite0_128.preprocess.json"
    return Bed(name, model, str(recipe), json.loads(recipe.read_text()), images, labels, 85.1)


def cached(path, make):
    """Images and labels kept beside `path`, or made."""
    kept = [path.with_name(f"{path.name}.{part}.npy") for part in ("images", "labels")]
    if not all(part.exists() for part in kept):
        for part, array in zip(kept, make()):
            numpy.save(part, array)
    return [numpy.load(part) for part in kept]


def pixels(data):
    """One image file as bytes [H, W, 3]."""
    return numpy.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def cifar_files(shared, split):
    """The image files of a split: by class in sorted order, pairs of name and content."""
    found = {}
    with tarfile.open(shared / "data" / "cifar10_small.tar.gz") as tar:
        for item in tar:
            parts = item.name.split("/")
            if item.name.endswith(".png") and parts[-3] == split:
                found.setdefault(parts[-2], []).append((parts[-1], tar.extractfile(item).read()))
    return [sorted(found[name]) for name in sorted(found)]


def cifar_test(shared):
    classes = [files[:CIFAR_TEST] for files in cifar_files(shared, "test")]
    labels = [label for label, files in enumerate(classes) for _ in files]
    return numpy.stack([pixels(data) for files in classes for _, data in files]), numpy.array(labels)


def middle(data):
    """An image file with its short side scaled to 256, bicubic; of that the middle 224 × 224."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    return numpy.asarray(image.crop((left, top, left + 224, top + 224)))


def imagenet_test(shared):
    images, labels = {}, {}
    with tarfile.open(shared / "data" / "imagenet_test_500.tar") as tar:
        for item in tar:
            key, _, kind = item.name.rpartition(".")
            if kind == "cls":
                labels[key] = int(tar.extractfile(item).read())
            elif kind == "jpg":
                images[key] = middle(tar.extractfile(item).read())
    keys = sorted(images)
    return numpy.stack([images[key] for key in keys]), numpy.array([labels[key] for key in keys])


def fmnist(name, work):
    family = name.removeprefix("fmnist-")
    model = ROOT / "fixtures" / "trained" / f"fmnist_{family}.bn.onnx"
    top1 = json.loads((ROOT / "fixtures" / "trained" / "top1.json").read_text())["fmnist"]["top1"][family]
    recipe = {"mean": [0.45], "std": [0.25]}
    images, labels = cached(work / "fmnist", lambda: (read_idx("t10k-images-idx3"), read_idx("t10k-labels-idx1")))
    return Bed(name, model, "fashion-mnist", recipe, images[..., None], labels.astype(int), 100 * top1)


def read_idx(stem):
    """The array of a gzipped IDX file of unsigned bytes."""
    path = DATASET / f"{stem}-ubyte.gz"
    if not path.exists():
        raise SystemExit(f"{path} is missing: install the Debian package dataset-fashion-mnist")
    raw = gzip.decompress(path.read_bytes())
    dims = numpy.frombuffer(raw, ">u4", count=raw[3], offset=4)
    return numpy.frombuffer(raw, numpy.uint8, offset=4 + 4 * raw[3]).reshape(dims)


def calibration(bed, shared, work, draw, count):
    """A path with `count` images for `--data`, without labels.

    CIFAR-10: the same number of each class, other images in each draw; a smaller count is a part of a larger one, and
    draw 0 with 500 images is what the prototype takes. ImageNet: a draw permutes the 500 images and takes the first.
    Fashion-MNIST: a permutation of the 60,000 training images, cut into draws.
    """
    if bed.name.startswith("fmnist-"):
        path = work / f"fmnist-draw{draw}-{count}.npz"
        if not path.exists():
            order = numpy.random.default_rng(0).permutation(60_000)[20_000 * draw:][:count]
            numpy.savez(path, images=read_idx("train-images-idx3")[order])
        return path
    kind = "imagenet" if bed.name == "imagenet" else "cifar"
    folder = work / f"{kind}-draw{draw}-{count}"
    if len(list(folder.glob("*.*"))) == count:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "cifar":
        classes = cifar_files(shared, "train")
        chosen = [(".png", classes[i % 10][DRAW_STEP * draw + i // 10][1]) for i in range(count)]
    else:
        with tarfile.open(shared / "data" / "imagenet_calibration_500.tar") as tar:
            items = sorted((item for item in tar if item.name.endswith(".jpg")), key=lambda item: item.name)
            order = numpy.random.default_rng(draw).permutation(len(items))[:count] if count < len(items) else range(count)
            chosen = [(".jpg", tar.extractfile(items[i]).read()) for i in order]
    for i, (suffix, data) in enumerate(chosen):
        (folder / f"{i:04}{suffix}").write_bytes(data)
    return folder


def decoded(bed, path):
    """The images of `calibration` as bytes [N, H, W, C], for baselines outside the tool."""
    if path.suffix == ".npz":
        return numpy.load(path)["images"][..., None]
    read = middle if bed.name == "imagenet" else pixels
    return numpy.stack([read(file.read_bytes()) for file in sorted(path.iterdir())])
