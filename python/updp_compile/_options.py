"""The options of every job as keyword arguments.

Made from the options of the command line: UPDATE_DOCS=1 cargo test -p updp-compile --lib python
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Union

if TYPE_CHECKING:
    from ._data import Data

StrPath = Union[str, "os.PathLike[str]"]


class CompileOptions(TypedDict, total=False):
    """Options of `compile`; all may be left out."""
    # Writes the result over the model that is read; without it, an output that is the input is refused
    in_place: bool
    # Fixes the shape of an input in the model: NAME:1,3,224,224 (also with x between the dims, or in brackets)
    input_shape: Mapping[str, Sequence[int | str]] | str | Sequence[str]
    # Makes constants of weights that are also inputs of the graph, so that they can be merged, pruned and trained: all of them, or those named
    freeze_weights: bool | str | Sequence[str]
    # Writes a report as JSON or as a page; can be given twice
    report: StrPath | Sequence[StrPath]
    # Checks the result against the documentation of this target; exits with 4 if the target refuses something
    target: Literal["ort", "tensorrt", "migraphx"]
    # Writes large tensors to OUT.data
    external_data: bool
    # Inputs to verify with: FILE.npz, NAME:FILE.npy
    input_data: Mapping[str, Any] | StrPath | Sequence[str]
    # Number of inputs to verify with [default: 3]
    check: int
    # Writes the result without running it
    no_verify: bool
    # Writes inputs and outputs of the reference for other runners, in the layout of the ONNX backend tests
    test_vectors: StrPath
    # Exits with 7 unless the result is X times as fast as the input model, measured in turns; below 1 it may be slower
    min_speedup: float
    # Exits with 7 if the result takes more bytes than this, external data included: 500000, 10MB, 1.5GiB
    max_bytes: int | str
    # Command that prints a score of {model} as its last word, higher is better: 'python eval.py {model}'. It scores the input model and the result, and --max-drop is in its unit
    score_command: str
    # Exits with 7 if the score of --score-command falls by more than this
    max_score_drop: float
    # Most seconds for one run of --score-command [default: 3600]
    score_timeout: int
    # When layers are merged [default: auto]
    merge: Literal["auto", "all"]
    # Rules to leave out
    skip: str | Sequence[str]
    # The only rules to run
    only: str | Sequence[str]
    # Runtime to run models with [default: auto]
    runtime: Literal["auto", "ort", "tract"]
    # Device that ONNX Runtime computes on [default: cpu]
    device: Literal["cpu", "cuda", "tensorrt", "rocm"]
    # Path of the ONNX Runtime library (libonnxruntime)
    ort_lib: StrPath
    # Threads inside an operator [default: the cores that this process may use]
    threads: int
    # Most seconds for loading a model, and for each run of it [default: 600]
    run_timeout: int
    # Most memory for running a model, in MiB [default: what is free]
    run_memory: int
    # Run models in this process, not in worker processes: a crash of a runtime ends the program
    in_process: bool


class PruneOptions(TypedDict, total=False):
    """Options of `prune`; all may be left out."""
    # Writes the result over the model that is read; without it, an output that is the input is refused
    in_place: bool
    # Fixes the shape of an input in the model: NAME:1,3,224,224 (also with x between the dims, or in brackets)
    input_shape: Mapping[str, Sequence[int | str]] | str | Sequence[str]
    # Makes constants of weights that are also inputs of the graph, so that they can be merged, pruned and trained: all of them, or those named
    freeze_weights: bool | str | Sequence[str]
    # Writes a report as JSON or as a page; can be given twice
    report: StrPath | Sequence[StrPath]
    # Checks the result against the documentation of this target; exits with 4 if the target refuses something
    target: Literal["ort", "tensorrt", "migraphx"]
    # Writes large tensors to OUT.data
    external_data: bool
    # Inputs to verify with: FILE.npz, NAME:FILE.npy
    input_data: Mapping[str, Any] | StrPath | Sequence[str]
    # Number of inputs to verify with [default: 3]
    check: int
    # Writes the result without running it
    no_verify: bool
    # Writes inputs and outputs of the reference for other runners, in the layout of the ONNX backend tests
    test_vectors: StrPath
    # Exits with 7 unless the result is X times as fast as the input model, measured in turns; below 1 it may be slower
    min_speedup: float
    # Exits with 7 if the result takes more bytes than this, external data included: 500000, 10MB, 1.5GiB
    max_bytes: int | str
    # Command that prints a score of {model} as its last word, higher is better: 'python eval.py {model}'. It scores the input model and the result, and --max-drop is in its unit
    score_command: str
    # Exits with 7 if the score of --score-command falls by more than this
    max_score_drop: float
    # Most seconds for one run of --score-command [default: 3600]
    score_timeout: int
    # When layers are merged [default: auto]
    merge: Literal["auto", "all"]
    # Rules to leave out
    skip: str | Sequence[str]
    # The only rules to run
    only: str | Sequence[str]
    # Runtime to run models with [default: auto]
    runtime: Literal["auto", "ort", "tract"]
    # Device that ONNX Runtime computes on [default: cpu]
    device: Literal["cpu", "cuda", "tensorrt", "rocm"]
    # Path of the ONNX Runtime library (libonnxruntime)
    ort_lib: StrPath
    # Threads inside an operator [default: the cores that this process may use]
    threads: int
    # Most seconds for loading a model, and for each run of it [default: 600]
    run_timeout: int
    # Most memory for running a model, in MiB [default: what is free]
    run_memory: int
    # Run models in this process, not in worker processes: a crash of a runtime ends the program
    in_process: bool
    # Prunes these blocks, by the numbers that inspect prints: 3,5,9-11 or all
    blocks: int | str | Sequence[int]
    # Forms a block may take: auto, depth, all, or a list of conv, dwpw, pw, low-rank, norm, drop and thin. auto = depth for --blocks and --prune, all for other goals [default: auto]
    forms: str | Sequence[str]
    # Whether kernels shrink: the first 3x3 to 1x1, a depthwise 7x7 to 3x3 [default: auto]
    shrink: Literal["auto", "none"]
    # Prunes this many blocks: those with the smallest degradation
    prune: int
    # Prunes until the model is X times as fast
    speedup: float
    # Prunes until the model takes T milliseconds
    latency_ms: float
    # Prunes until at most this share of the multiply-adds is left, such as 0.7; the count is the same on every machine
    macs: float
    # Largest accuracy drop in points (without labels: drop in agreement); without another goal, prunes as much as this allows
    max_drop: float
    # Writes a network that an earlier run with --front measured, without fitting it again; needs the work folder of that run
    pick: int
    # Fits and measures five more sets between the input model and the result, writes a table of all, and keeps the work folder for --pick
    front: StrPath
    # Outputs that count in the degradation, each with a weight [default: all outputs with floats for each image, equally]
    outputs: Mapping[str, float] | str | Sequence[str]
    # How sets of blocks are searched for [default: fit; with a supernet genetic]
    search: Literal["fit", "genetic", "random", "greedy"]
    # Largest number of sets to try [default: by the size of the model, 6 to 32 for fit, 32 to 256 for the others]
    evaluations: int
    # Number of sets that are fitted as a whole; the best one is taken [default: 4, for a large model 2]
    shortlist: int
    # Epochs to train a supernet, which holds every block both as it is and pruned, and to try sets in it; 0 = no supernet [default: 0]
    supernet_epochs: int
    # Where the weights of the chosen network come from, with a supernet and --method fit [default: auto]
    start: Literal["auto", "fit", "supernet"]
    # How accuracy is recovered [default with --data: fit]
    recover: Literal["none", "fit", "train"]
    # Prunes blocks even where every form is slower
    force: bool
    # Prunes a model that is near chance on the images; without it, such a model is an error
    allow_low_accuracy: bool
    # Batch size for measurements, where the model leaves it open [default: 1]
    batch: int
    # Most seconds to measure each form of a block [default: 0.25]
    probe_seconds: float
    # Images to report on [default: the held-out images]
    val: Data
    # Share of --data that is held out to choose the blocks by [default: 0.1]
    val_split: float
    # How images become inputs: a preset (imagenet, cifar, fashion-mnist, mnist, unit, symmetric, caffe, none; with ,crop ,squeeze ,bgr ,bicubic behind it), or the file that Hugging Face or timm publishes beside a model; auto takes the one with the highest accuracy (needs labels) [default: imagenet]
    preprocess: str
    # Refuses to start unless the input model has this accuracy on the images, in per cent, within two standard errors: 88
    expect_accuracy: float
    # Largest number of images to fit with [default: as many as the model runs in a minute, 500 to 4000]
    images: int
    # Seed of all random draws: the held-out images and the rows to fit with [default: 0]
    seed: int | str
    # Folder that keeps results, so that the same command continues where it stopped [default: OUT.work, removed at the end]
    work: StrPath
    # Most seconds to wait for another process that uses this folder [default: 600]
    work_wait: str
    # Input of the model that takes the images [default: the only one that can]
    image_input: str
    # Array for another input of the model, for one image; inputs without one get ones
    input: str | Sequence[str]
    # Trains the pruned network for this many epochs [default with --recover train: 10]
    epochs: int
    # How training starts [default: fit]
    method: Literal["fit", "blend", "progressive", "direct"]
    # λ reaches 1 after 1/K of the epochs [default: 3; ConvNeXt 4.5, transformers 6]
    ramp: float
    # How λ gets from 0 to 1 [default: linear]
    ramp_form: Literal["linear", "cosine"]
    # When the kernels of progressive and direct shrink: with lambda, or at once after this many epochs [default: lambda]
    shrink_at: str
    # Images in a step; a model keeps the batch that it fixes where that cannot be opened [default: 64; 32 after a fit with fewer than 2000 images]
    batch_size: int
    # Batches whose gradients are summed for one update [default: 1]
    accumulate: int
    # Optimizer [default: auto]
    optimizer: Literal["auto", "sgd", "adamw"]
    # Learning rate after the warm-up; it then falls along half a cosine [default: adamw 0.0005, sgd 0.02; sgd 0.05 for a pruned network with 1000 steps or more, or with progressive or direct; adamw 0.00005 after a fit with fewer than 2000 images]
    lr: float
    # Epochs in which the learning rate rises from 0 [default: a twentieth of all epochs]
    warm_up: float
    # Weight decay; norms and biases have none [default: sgd 0.0005, adamw 0.05; adamw 0.0001 after a fit with fewer than 2000 images]
    weight_decay: float
    # Largest norm of all gradients together [default: sgd 1, adamw 5]
    clip: float
    # Share of a label that is spread over all classes [default: 0]
    label_smoothing: float
    # Weight of the input model's scores beside the labels; without labels only the scores count [default: 0.5; 1 after a fit with fewer than 2000 images]
    distill: float
    # Temperature of the input model's scores [default: 2; 1 after a fit with fewer than 2000 images]
    temperature: float
    # Writes the moving average of the weights, with this decay in each step
    ema: float
    # How images are changed; changes that are new to the network cost accuracy at first [default: none]
    augment: Literal["none", "crop", "light", "strong"]
    # Gives images of rare classes more weight
    balance_classes: bool
    # Weights of the classes, in their order: 1,1,4; scaled to a mean of 1 over the images
    class_weights: float | Sequence[float]
    # Computes activations again in the backward pass instead of keeping them: less memory, up to a third more time
    recompute: bool
    # Number type of convolutions and matrix products; everything else, and the weights, stay f32 [default: f32]
    precision: Literal["f32", "f16", "bf16"]
    # Initializers that are not trained, by name
    freeze: str | Sequence[str]


class FinetuneOptions(TypedDict, total=False):
    """Options of `finetune`; all may be left out."""
    # Images to report on [default: the held-out images]
    val: Data
    # Share of --data that is held out to choose the blocks by [default: 0.1]
    val_split: float
    # How images become inputs: a preset (imagenet, cifar, fashion-mnist, mnist, unit, symmetric, caffe, none; with ,crop ,squeeze ,bgr ,bicubic behind it), or the file that Hugging Face or timm publishes beside a model; auto takes the one with the highest accuracy (needs labels) [default: imagenet]
    preprocess: str
    # Refuses to start unless the input model has this accuracy on the images, in per cent, within two standard errors: 88
    expect_accuracy: float
    # Largest number of images to fit with [default: as many as the model runs in a minute, 500 to 4000]
    images: int
    # Seed of all random draws: the held-out images and the rows to fit with [default: 0]
    seed: int | str
    # Folder that keeps results, so that the same command continues where it stopped [default: OUT.work, removed at the end]
    work: StrPath
    # Most seconds to wait for another process that uses this folder [default: 600]
    work_wait: str
    # Epochs to train for [default: 10]
    epochs: int
    # Images in a step; a model keeps the batch that it fixes where that cannot be opened [default: 64; 32 after a fit with fewer than 2000 images]
    batch_size: int
    # Batches whose gradients are summed for one update [default: 1]
    accumulate: int
    # Optimizer [default: auto]
    optimizer: Literal["auto", "sgd", "adamw"]
    # Learning rate after the warm-up; it then falls along half a cosine [default: adamw 0.0005, sgd 0.02; sgd 0.05 for a pruned network with 1000 steps or more, or with progressive or direct; adamw 0.00005 after a fit with fewer than 2000 images]
    lr: float
    # Epochs in which the learning rate rises from 0 [default: a twentieth of all epochs]
    warm_up: float
    # Weight decay; norms and biases have none [default: sgd 0.0005, adamw 0.05; adamw 0.0001 after a fit with fewer than 2000 images]
    weight_decay: float
    # Largest norm of all gradients together [default: sgd 1, adamw 5]
    clip: float
    # Share of a label that is spread over all classes [default: 0]
    label_smoothing: float
    # Weight of the input model's scores beside the labels; without labels only the scores count [default: 0.5; 1 after a fit with fewer than 2000 images]
    distill: float
    # Temperature of the input model's scores [default: 2; 1 after a fit with fewer than 2000 images]
    temperature: float
    # Writes the moving average of the weights, with this decay in each step
    ema: float
    # How images are changed; changes that are new to the network cost accuracy at first [default: none]
    augment: Literal["none", "crop", "light", "strong"]
    # Gives images of rare classes more weight
    balance_classes: bool
    # Weights of the classes, in their order: 1,1,4; scaled to a mean of 1 over the images
    class_weights: float | Sequence[float]
    # Computes activations again in the backward pass instead of keeping them: less memory, up to a third more time
    recompute: bool
    # Number type of convolutions and matrix products; everything else, and the weights, stay f32 [default: f32]
    precision: Literal["f32", "f16", "bf16"]
    # Initializers that are not trained, by name
    freeze: str | Sequence[str]
    # Writes the trained model over the model that is read; without it, an output that is the input is refused
    in_place: bool
    # Fixes the shape of an input in the model: NAME:1,3,224,224
    input_shape: Mapping[str, Sequence[int | str]] | str | Sequence[str]
    # Makes constants of weights that are also inputs of the graph, so that they can be merged, pruned and trained: all of them, or those named
    freeze_weights: bool | str | Sequence[str]
    # Writes a report as JSON or as a page
    report: StrPath
    # Runtime to run models with [default: auto]
    runtime: Literal["auto", "ort", "tract"]
    # Device that ONNX Runtime computes on [default: cpu]
    device: Literal["cpu", "cuda", "tensorrt", "rocm"]
    # Path of the ONNX Runtime library (libonnxruntime)
    ort_lib: StrPath
    # Threads inside an operator [default: the cores that this process may use]
    threads: int
    # Most seconds for loading a model, and for each run of it [default: 600]
    run_timeout: int
    # Most memory for running a model, in MiB [default: what is free]
    run_memory: int
    # Run models in this process, not in worker processes: a crash of a runtime ends the program
    in_process: bool


class InspectOptions(TypedDict, total=False):
    """Options of `inspect`; all may be left out."""
    # Checks the model as it is against the documentation of this target
    target: Literal["ort", "tensorrt", "migraphx"]
    # Measures each block as it is and in each of its forms
    latency: bool
    # Writes a page that shows the blocks before and after pruning
    map: StrPath
    # What a pruned block would become [default: auto]
    form: Literal["auto", "conv", "dwpw", "pw", "low-rank", "norm", "drop"]
    # Whether kernels would shrink [default: auto]
    shrink: Literal["auto", "none"]
    # Batch size for measurements, where the model leaves it open [default: 1]
    batch: int
    # Makes constants of weights that are also inputs of the graph, so that they can be merged, pruned and trained: all of them, or those named
    freeze_weights: bool | str | Sequence[str]
    # When layers are merged [default: auto]
    merge: Literal["auto", "all"]
    # Rules to leave out
    skip: str | Sequence[str]
    # The only rules to run
    only: str | Sequence[str]
    # Runtime to run models with [default: auto]
    runtime: Literal["auto", "ort", "tract"]
    # Device that ONNX Runtime computes on [default: cpu]
    device: Literal["cpu", "cuda", "tensorrt", "rocm"]
    # Path of the ONNX Runtime library (libonnxruntime)
    ort_lib: StrPath
    # Threads inside an operator [default: the cores that this process may use]
    threads: int
    # Most seconds for loading a model, and for each run of it [default: 600]
    run_timeout: int
    # Most memory for running a model, in MiB [default: what is free]
    run_memory: int
    # Run models in this process, not in worker processes: a crash of a runtime ends the program
    in_process: bool


class VerifyOptions(TypedDict, total=False):
    """Options of `verify`; all may be left out."""
    # Inputs: FILE.npz (with an array `labels`, the top-1 accuracy of both is printed), NAME:FILE.npy
    input_data: Mapping[str, Any] | StrPath | Sequence[str]
    # Number of inputs to draw [default: 3]
    check: int
    # Largest allowed max|Δ| / max|reference| [default: by the dtype of the output]
    limit: float
    # Runtime to run models with [default: auto]
    runtime: Literal["auto", "ort", "tract"]
    # Device that ONNX Runtime computes on [default: cpu]
    device: Literal["cpu", "cuda", "tensorrt", "rocm"]
    # Path of the ONNX Runtime library (libonnxruntime)
    ort_lib: StrPath
    # Threads inside an operator [default: the cores that this process may use]
    threads: int
    # Most seconds for loading a model, and for each run of it [default: 600]
    run_timeout: int
    # Most memory for running a model, in MiB [default: what is free]
    run_memory: int
    # Run models in this process, not in worker processes: a crash of a runtime ends the program
    in_process: bool


class EvaluateOptions(TypedDict, total=False):
    """Options of `evaluate`; all may be left out."""
    # How images become inputs: a preset (imagenet, cifar, fashion-mnist, mnist, unit, symmetric, caffe, none; with ,crop ,squeeze ,bgr ,bicubic behind it), or the file that Hugging Face or timm publishes beside a model; auto takes the one with the highest accuracy of A (needs labels) [default: imagenet]
    preprocess: str
    # Refuses to start unless A has this accuracy on a part of the images, in per cent, within two standard errors: 88
    expect_accuracy: float
    # Largest number of images to evaluate, drawn with --seed [default: all]
    images: int
    # Seed that draws the images [default: 0]
    seed: int | str
    # Fixes the shape of an input in both models: NAME:1,3,224,224
    input_shape: Mapping[str, Sequence[int | str]] | str | Sequence[str]
    # Input of the model that takes the images [default: the only one that can]
    image_input: str
    # Array for another input of the model, for one image; inputs without one get ones
    input: str | Sequence[str]
    # How many images to list whose class changes from A to B [default: 10]
    flipped: int
    # Writes the result to a file, as JSON or as a page
    report: StrPath
    # Runtime to run models with [default: auto]
    runtime: Literal["auto", "ort", "tract"]
    # Device that ONNX Runtime computes on [default: cpu]
    device: Literal["cpu", "cuda", "tensorrt", "rocm"]
    # Path of the ONNX Runtime library (libonnxruntime)
    ort_lib: StrPath
    # Threads inside an operator [default: the cores that this process may use]
    threads: int
    # Most seconds for loading a model, and for each run of it [default: 600]
    run_timeout: int
    # Most memory for running a model, in MiB [default: what is free]
    run_memory: int
    # Run models in this process, not in worker processes: a crash of a runtime ends the program
    in_process: bool


class BenchmarkOptions(TypedDict, total=False):
    """Options of `bench`; all may be left out."""
    # Batch size, where the model leaves it open [default: 1]
    batch: int
    # Seconds to measure, for all models together [default: 4]
    seconds: float
    # Writes the result to a file, as JSON or as a page
    report: StrPath
    # When layers are merged in the forms [default: auto]
    merge: Literal["auto", "all"]
    # Runtime to run models with [default: auto]
    runtime: Literal["auto", "ort", "tract"]
    # Device that ONNX Runtime computes on [default: cpu]
    device: Literal["cpu", "cuda", "tensorrt", "rocm"]
    # Path of the ONNX Runtime library (libonnxruntime)
    ort_lib: StrPath
    # Threads inside an operator [default: the cores that this process may use]
    threads: int
    # Most seconds for loading a model, and for each run of it [default: 600]
    run_timeout: int
    # Most memory for running a model, in MiB [default: what is free]
    run_memory: int
    # Run models in this process, not in worker processes: a crash of a runtime ends the program
    in_process: bool


class DoctorOptions(TypedDict, total=False):
    """Options of `doctor`; all may be left out."""
    # Path of the ONNX Runtime library (libonnxruntime) to try
    ort_lib: StrPath


# Options that are given once for each value; the values of others are joined with commas.
REPEATED = frozenset({"input", "input_data", "input_shape", "report"})
