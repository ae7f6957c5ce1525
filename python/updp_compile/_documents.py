"""The documents of updp-compile as dataclasses.

Made by scripts/python_documents.py from the JSON schemas in docs/schemas. docs/report.md explains the fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ._document import Document

__all__ = [
    "BenchModel",
    "BenchReport",
    "CompileReport",
    "Course",
    "Deploy",
    "DeployFinding",
    "DoctorCure",
    "DoctorError",
    "DoctorLibrary",
    "DoctorMachine",
    "DoctorPassedOver",
    "DoctorProvider",
    "DoctorReport",
    "DoctorTemporary",
    "EvaluateClass",
    "EvaluateFlipped",
    "EvaluateModel",
    "EvaluateReport",
    "Fit",
    "FitBlock",
    "FitBlockCandidate",
    "FitData",
    "FitDataImageInput",
    "FitDataOtherInput",
    "FitOutput",
    "FitSearch",
    "FitSpeed",
    "FitSupernet",
    "FitTraining",
    "Gates",
    "GatesScore",
    "History",
    "Input",
    "InputScore",
    "InputTried",
    "InspectBlock",
    "InspectOpset",
    "InspectProducer",
    "InspectRefusal",
    "InspectReport",
    "InspectVariant",
    "Model",
    "Network",
    "NetworkSpeed",
    "Pruning",
    "PruningBlock",
    "Refusal",
    "Rewrite",
    "Score",
    "Set",
    "Subnet",
    "Tool",
    "TrainCourse",
    "TrainEpoch",
    "TrainReport",
    "TrainScore",
    "TrainValidation",
    "Variant",
    "Verification",
    "VerificationChangedParts",
    "VerificationOutput",
    "VerifyOutput",
    "VerifyReport",
]


@dataclass(frozen=True)
class Tool(Document):
    """`tool` of a document."""

    name: Literal['updp-compile']
    version: str


@dataclass(frozen=True)
class Model(Document):
    """`model` of a document."""

    path: str
    bytes: int
    ir_version: int
    opset: int | None
    nodes: int
    ops: dict[str, int]
    parameters: int
    macs: int


@dataclass(frozen=True)
class Rewrite(Document):
    """`rewrite` of a document."""

    rule: str
    node: str


@dataclass(frozen=True)
class Refusal(Document):
    """`refusal` of a document."""

    rule: str
    node: str
    reason: str
    detail: str


@dataclass(frozen=True)
class VerificationChangedParts(Document):
    """`changed_parts` of a document."""

    equal: int
    left_out: int
    noisy: int
    worst: float


@dataclass(frozen=True)
class VerificationOutput(Document):
    """`output` of a document."""

    name: str
    relative: float
    rms: float
    cosine: float
    top1_agreement: float | None
    limit: float
    undecided: int
    noise: float | None
    telling: bool


@dataclass(frozen=True)
class Verification(Document):
    """`verification` of a document."""

    status: Literal['passed', 'unchanged', 'skipped', 'local']
    runtime: str | None
    runs: int
    parts: int | None
    changed_parts: VerificationChangedParts | None
    outputs: list[VerificationOutput]
    random_outputs: list[str]


@dataclass(frozen=True)
class Variant(Document):
    """`variant` of a document."""

    parameters: int
    macs: int
    layers: int
    estimate_ms: float
    latency_ms: float | None


@dataclass(frozen=True)
class PruningBlock(Document):
    """`block` of a document."""

    index: int
    kind: str
    name: str
    form: str
    baseline: Variant
    pruned: Variant | None


@dataclass(frozen=True)
class FitDataImageInput(Document):
    """`image_input` of a document."""

    name: str
    dims: list[int]


@dataclass(frozen=True)
class FitDataOtherInput(Document):
    """`other_input` of a document."""

    name: str
    dtype: str
    dims: list[int]
    is_repeated: bool
    is_given: bool


@dataclass(frozen=True)
class FitData(Document):
    """`data` of a document."""

    calibration: int
    held_out: int
    validation: int
    classes: list[str]
    skipped: list[str]
    image_input: FitDataImageInput
    other_inputs: list[FitDataOtherInput]


@dataclass(frozen=True)
class FitOutput(Document):
    """`output` of a document."""

    name: str
    weight: float
    degradation: float | None


@dataclass(frozen=True)
class InputScore(Document):
    """`score` of a document."""

    images: int
    classes: int
    accuracy: float | None
    confidence: float | None
    entropy: float
    predicted_classes: int
    most_frequent: float | None


@dataclass(frozen=True)
class InputTried(Document):
    """`tried` of a document."""

    preprocess: str
    images: int
    accuracy: float | None


@dataclass(frozen=True)
class Input(Document):
    """`input` of a document."""

    preprocess: str
    score: InputScore | None
    tried: list[InputTried]


@dataclass(frozen=True)
class Score(Document):
    """`score` of a document."""

    images: int
    accuracy: float | None
    top5: float | None
    agreement: float | None
    overlap: float | None
    kl: float | None


@dataclass(frozen=True)
class History(Document):
    """`history` of a document."""

    epoch: int
    loss: float | None
    lambda_: float | None = field(metadata={'key': 'lambda'})
    score: Score


@dataclass(frozen=True)
class Course(Document):
    """`course` of a document."""

    step: int
    loss: float | None
    lambda_: float | None = field(metadata={'key': 'lambda'})
    learning_rate: float


@dataclass(frozen=True)
class FitTraining(Document):
    """`training` of a document."""

    method: Literal['fit', 'blend', 'progressive', 'direct']
    epochs: int
    steps: int
    images: int
    images_per_second: float | None
    before: Score
    after: Score
    is_written: bool
    history: list[History]
    course: list[Course]


@dataclass(frozen=True)
class FitSpeed(Document):
    """`speed` of a document."""

    before_ms: float
    after_ms: float
    speedup: float
    low: float
    high: float
    threads: int
    batch: int
    runtime: str


@dataclass(frozen=True)
class FitBlockCandidate(Document):
    """`candidate` of a document."""

    form: str
    latency_ms: float
    output_error: float | None
    ridge: float | None
    score: Score
    degradation: float | None


@dataclass(frozen=True)
class FitBlock(Document):
    """`block` of a document."""

    index: int
    name: str
    kind: str
    baseline_ms: float
    candidates: list[FitBlockCandidate]
    chosen: str | None
    reason: str | None


@dataclass(frozen=True)
class Set(Document):
    """`set` of a document."""

    blocks: list[tuple[int, str]]
    latency_ms: float
    degradation: float
    joint_degradation: float | None
    fitted_degradation: float | None


@dataclass(frozen=True)
class NetworkSpeed(Document):
    """`speed` of a document."""

    after_ms: float
    speedup: float
    low: float
    high: float


@dataclass(frozen=True)
class Network(Document):
    """`network` of a document."""

    number: int
    is_chosen: bool
    is_beaten: bool
    speed: NetworkSpeed | None
    macs_share: float
    score: Score
    blocks: list[tuple[int, str]]


@dataclass(frozen=True)
class Subnet(Document):
    """`subnet` of a document."""

    before: Score
    after: Score


@dataclass(frozen=True)
class FitSupernet(Document):
    """`supernet` of a document."""

    epochs: int
    steps: int
    images: int
    images_per_second: float | None
    blocks: list[tuple[int, str]]
    baseline: Subnet
    all_pruned: Subnet
    history: list[History]
    course: list[Course]
    start: Literal['supernet', 'fit', None]


@dataclass(frozen=True)
class FitSearch(Document):
    """`search` of a document."""

    strategy: Literal['genetic', 'random', 'greedy']
    seed: int
    evaluated: int
    by_latency: list[Set]
    by_count: list[Set]


@dataclass(frozen=True)
class Fit(Document):
    """`fit` of a document."""

    data: FitData
    outputs: list[FitOutput]
    metric: Literal['accuracy', 'agreement', 'overlap']
    goal: str
    input: Input | None
    held_out_baseline: Score
    before: Score
    after: Score
    training: FitTraining | None
    speed: FitSpeed | None
    blocks: list[FitBlock]
    front: list[Set]
    tried: list[Set]
    networks: list[Network]
    supernet: FitSupernet | None
    search: FitSearch | None
    explanation: list[str]
    missed: list[str]


@dataclass(frozen=True)
class Pruning(Document):
    """`pruning` of a document."""

    recovery: Literal['fit', 'none']
    usable: bool
    blocks_found: int
    statistics: Literal['data', 'noise', 'not needed']
    blocks: list[PruningBlock]
    left_alone: list[str]
    fit: Fit | None = None


@dataclass(frozen=True)
class GatesScore(Document):
    """`score` of a document."""

    command: str
    before: float
    after: float
    max_drop: float | None


@dataclass(frozen=True)
class Gates(Document):
    """`gates` of a document."""

    min_speedup: float | None
    speedup: float | None
    max_bytes: int | None
    bytes: int | None
    score: GatesScore | None
    missed: list[str]


@dataclass(frozen=True)
class DeployFinding(Document):
    """`finding` of a document."""

    severity: Literal['error', 'warning', 'note']
    rule: str
    places: list[str]
    count: int
    what: str
    cure: str
    source: str


@dataclass(frozen=True)
class Deploy(Document):
    """`deploy` of a document."""

    target: str
    findings: list[DeployFinding]


@dataclass(frozen=True)
class CompileReport(Document):
    """docs/report.md says what every field means. New fields may come under the same number."""

    schema: Literal['updp-report/2']
    tool: Tool
    input: Model
    output: Model
    rewrites_by_rule: dict[str, int]
    rewrites: list[Rewrite]
    refusals: list[Refusal]
    warnings: list[str]
    overridable_weights: int
    frozen_weights: int
    verification: Verification
    times_ms: dict[str, float]
    pruning: Pruning | None = None
    gates: Gates | None = None
    deploy: Deploy | None = None


@dataclass(frozen=True)
class TrainScore(Document):
    """`score` of a document."""

    images: int
    accuracy: float | None
    top5: float | None
    agreement: float | None
    overlap: float | None
    kl: float | None


@dataclass(frozen=True)
class TrainEpoch(Document):
    """`epoch` of a document."""

    epoch: int
    loss: float | None
    lambda_: float | None = field(metadata={'key': 'lambda'})
    score: TrainScore


@dataclass(frozen=True)
class TrainCourse(Document):
    """`course` of a document."""

    step: int
    loss: float | None
    lambda_: float | None = field(metadata={'key': 'lambda'})
    learning_rate: float


@dataclass(frozen=True)
class TrainValidation(Document):
    """`validation` of a document."""

    steps: int
    epoch: int
    score: float | None


@dataclass(frozen=True)
class TrainReport(Document):
    """What `updp-compile train MODEL -o OUT --report F.json` writes."""

    schema: Literal['updp-train/1']
    model: str
    output: str
    before: TrainScore
    after: TrainScore
    steps: int
    tensors: int
    parameters: int
    images_per_second: float | None
    epochs: list[TrainEpoch]
    course: list[TrainCourse]
    validations: list[TrainValidation]


@dataclass(frozen=True)
class EvaluateModel(Document):
    """`model` of a document."""

    path: str
    runtime: str
    top1: float | None
    top5: float | None


@dataclass(frozen=True)
class EvaluateClass(Document):
    """`class` of a document."""

    name: str
    images: int
    top1: list[float]
    agreement: float | None


@dataclass(frozen=True)
class EvaluateFlipped(Document):
    """`flipped` of a document."""

    name: str
    label: str | None
    first: str | None
    second: str | None


@dataclass(frozen=True)
class EvaluateReport(Document):
    """What one or two models say of images (evaluate --json)."""

    schema: Literal['updp-evaluate/1']
    data: str
    images: int
    skipped: list[str]
    has_labels: bool
    models: list[EvaluateModel]
    agreement: float | None
    classes: list[EvaluateClass]
    flipped_count: int
    flipped: list[EvaluateFlipped]


@dataclass(frozen=True)
class BenchModel(Document):
    """`model` of a document."""

    path: str
    runtime: str
    median_ms: float
    p10_ms: float
    p90_ms: float
    min_ms: float
    runs: int
    speedup: float
    low: float
    high: float


@dataclass(frozen=True)
class BenchReport(Document):
    """What `updp-compile bench MODEL... --json` prints."""

    schema: Literal['updp-bench/1']
    batch: int
    threads: int | None
    models: list[BenchModel]


@dataclass(frozen=True)
class VerifyOutput(Document):
    """`output` of a document."""

    name: str
    relative: float | None
    rms: float | None
    cosine: float | None
    top1_agreement: float | None
    limit: float
    undecided: int
    noise: float | None
    telling: bool


@dataclass(frozen=True)
class VerifyReport(Document):
    """What `updp-compile verify A B --json` prints."""

    schema: Literal['updp-verify/1']
    reference: str
    model: str
    is_equal: bool
    proves_nothing: str | None
    failure: str | None
    runtime: str
    runs: int
    outputs: list[VerifyOutput]
    random_outputs: list[str]
    top1: list[float] | None


@dataclass(frozen=True)
class InspectOpset(Document):
    """`opset` of a document."""

    domain: str
    version: int


@dataclass(frozen=True)
class InspectProducer(Document):
    """`producer` of a document."""

    name: str
    version: str


@dataclass(frozen=True)
class InspectVariant(Document):
    """`variant` of a document."""

    parameters: int
    macs: int
    layers: int
    estimate_ms: float | None
    latency_ms: float | None


@dataclass(frozen=True)
class InspectRefusal(Document):
    """`refusal` of a document."""

    refused: str


@dataclass(frozen=True)
class InspectBlock(Document):
    """`block` of a document."""

    index: int
    kind: str
    name: str
    input: str | None
    output: str | None
    prunable: bool
    reason: str | None
    detail: str | None
    fit_only: str | None
    slower: str | None
    unmeasured: str | None
    baseline: InspectVariant
    fastest: str | None
    forms: dict[str, InspectVariant | InspectRefusal]


@dataclass(frozen=True)
class InspectReport(Document):
    """What `updp-compile inspect MODEL --json` prints."""

    schema: Literal['updp-inspect/1']
    ir_version: int
    opsets: list[InspectOpset]
    producer: InspectProducer
    metadata: list[Any]
    functions: list[Any]
    graph: dict[str, Any]
    overridable_weights: int
    blocks: list[InspectBlock]
    deploy: dict[str, Any] | None = None


@dataclass(frozen=True)
class DoctorLibrary(Document):
    """`library` of a document."""

    path: str
    version: str
    place: Literal['named', 'variable', 'repository', 'embedding', 'own-prefix', 'virtual-env', 'conda', 'python', 'user', 'system']
    reason: str


@dataclass(frozen=True)
class DoctorError(Document):
    """`error` of a document."""

    code: str
    message: str
    help: str | None


@dataclass(frozen=True)
class DoctorProvider(Document):
    """`provider` of a document."""

    name: str
    is_usable: bool | None
    detail: str | None


@dataclass(frozen=True)
class DoctorPassedOver(Document):
    """`passed_over` of a document."""

    path: str
    version: str | None
    place: Literal['named', 'variable', 'repository', 'embedding', 'own-prefix', 'virtual-env', 'conda', 'python', 'user', 'system']
    reason: str


@dataclass(frozen=True)
class DoctorMachine(Document):
    """`machine` of a document."""

    processor: str
    architecture: str
    cores: int
    hardware_threads: int
    usable_threads: int
    vectors: list[str]
    memory_bytes: int
    available_memory_bytes: int


@dataclass(frozen=True)
class DoctorTemporary(Document):
    """`temporary` of a document."""

    path: str
    free_bytes: int | None


@dataclass(frozen=True)
class DoctorCure(Document):
    """`cure` of a document."""

    what: str
    command: str


@dataclass(frozen=True)
class DoctorReport(Document):
    """What `updp-compile doctor --json` prints."""

    schema: Literal['updp-doctor/1']
    version: str
    works: bool
    library: DoctorLibrary | None
    error: DoctorError | None
    providers: list[DoctorProvider]
    passed_over: list[DoctorPassedOver]
    searched: list[str]
    tract: str
    pythons: list[str]
    machine: DoctorMachine
    temporary: DoctorTemporary
    cures: list[DoctorCure]
