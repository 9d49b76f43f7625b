"""Collects the certificates in force, and proves them and their parents."""

from __future__ import annotations

from typing import Any

from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.datasets import read_certificate
from curricle.checkpoints.lineage import Link, ancestry, stored_by_digest, verify_link
from curricle.checkpoints.store import Store
from curricle.errors import ConfigError, StoreError
from curricle.planning.parameters import did_you_mean
from curricle.stages.spec import StageSpec


def check_lineage(
    catalog: Any, store: Store, specs: tuple[StageSpec, ...], stage: str | None
) -> tuple[tuple[Link, ...], tuple[str, ...]]:
    """Prove the certificates in force, or only the chain that ends in ``stage``.

    Returns:
        The links, roots first, each once; and what is broken, a message each.

    Raises:
        ConfigError: there is no such stage.
    """
    names = [spec.name for spec in specs]
    if stage is not None and stage not in names:
        raise ConfigError(f"There is no stage {stage}; {did_you_mean(stage, names)}")
    certificates: dict[str, Certificate] = {}
    broken = []
    for name in names if stage is None else [stage]:
        path = catalog[f"{name}_checkpoint"].path
        if not path.exists():
            continue
        try:
            chain = reversed(list(ancestry(read_certificate(path))))
        except StoreError as error:
            broken.append(f"{name}: {error}")
            continue
        certificates |= {certificate.hash: certificate for certificate in chain}
    index = stored_by_digest(store)
    links = tuple(verify_link(certificate, index) for certificate in certificates.values())
    for link in links:
        broken += [f"{link.certificate.stage}: {problem}" for problem in link.problems]
    return links, tuple(broken)
