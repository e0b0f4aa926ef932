"""Proxies: train a small model on a mixture, and measure it on the targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from climb.files import LocalCopies
from climb.tokenizer import TokenizerFile


@dataclass(frozen=True, kw_only=True)
class Target:
    """A task that a model is measured on; its metrics are named `<name>.<metric>`."""

    name: str
    kind: Literal["choices", "text"]
    """choices: JSON Lines of {context, choices, label}; text: JSON Lines of {text}."""

    path: str
    """JSON Lines file, gzip or plain."""

    limit: int | None = None
    """Maximum number of items. The items whose lines have the lowest SHA-256 are used. None means
    all."""

    where: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Fields of an item, such as `meta.subject`, and their accepted values. Items with other
    values are left out."""

    excluded: tuple[str, ...] = ()
    """Identities of items that are left out because they are report items. Only the final
    comparison uses report items. See `climb.proxy.items`."""


@dataclass(frozen=True, kw_only=True)
class ProxyRun:
    """Specification of one training run.

    Equal runs have equal metrics, bit for bit, on one kind of device, unless the recipe sets
    `deterministic: false`.
    """

    weights: Mapping[str, float]
    """Domain name -> share of tokens; sums to 1."""

    shards: Mapping[str, str]
    """Domain name -> .npy file of its token ids, a one-dimensional unsigned integer array. A large
    shard is a folder of such files; `climb.proxy.shards.open_shard` reads both."""

    tokenizer: TokenizerFile

    n_tokens: int
    """Number of training tokens of the whole run, which the learning rates depend on."""

    seed: int
    start: str | None
    """Folder of the base checkpoint that the run continues; None starts from random weights."""

    save: str | None
    """Folder for the trained model; None keeps no model. `climb.files.write_folder` writes it,
    also on mounts of object stores; a partly written folder never counts as a model."""

    checkpoints: str
    """Folder for the run's checkpoints. A successful run without `stop_tokens` removes it."""

    checkpoint_steps: int
    """Number of steps between two checkpoints."""

    targets: tuple[Target, ...] = field(default=())

    stop_tokens: int | None = None
    """The run stops after at most this many tokens, but takes at least one step. Then its model is
    measured, and its checkpoints are kept. A later run without this limit continues from them; its
    result equals that of a run that never stopped. Until the run stops, the limit does not change
    the parameters of the model. None: no limit."""

    heartbeat: str | None = None
    """File for the progress of the run (`climb.proxy.heartbeat`); None: no file."""

    local_copies: LocalCopies | None = None
    """Where the shards are copied to before training; None reads them where they are."""

    halve_micro_batch: bool = True
    """Whether a run that runs out of memory continues with half the sequences per forward and
    backward pass, down to one. The batch stays the same, but the rounding of its gradients changes.
    This field is false for runs that share memory with other runs, and for runs of several
    processes. Such runs fail instead."""

    processes: int = 1
    """Number of processes that train the model together; it changes the rounding of gradients. Each
    process calls `train` after it has joined the others (`climb.proxy.processes`)."""

    curve: str | None = None
    """File for the learning curve (`climb.proxy.curve`), written at the end; None: no file."""

    curve_steps: int = 1
    """Steps between two points of the learning curve."""

    evaluate_steps: int | None = None
    """Steps between two evaluations on the targets during training, for the learning curve; None:
    the model is measured at the end only. Evaluations do not change the model's parameters."""


@runtime_checkable
class Proxy(Protocol):
    """A model architecture with its training settings.

    If the class has `supports_processes = True`, `train` may be called in `run.processes` processes
    at once. If the class has `reports_progress = True`, `train` writes heartbeats to
    `run.heartbeat`, and a run without a heartbeat for `proxy.hung_minutes` is ended and repeated.
    """

    def train(self, run: ProxyRun, device: str) -> dict[str, float]:
        """Train, measure and return the metrics by name; a metric that is NaN fails the trial.

        Raises:
            TrialError: the loss became NaN or infinite: the trial is recorded as failed.
            ResourceError: memory ran out: the run is tried once more, while no other run trains. If
                memory runs out again, or if no other run trained at the first try, the run is
                recorded as failed.
            InfrastructureError: a worker, device or mount was lost: the run is repeated.
            Every other exception stops the search.
        """
