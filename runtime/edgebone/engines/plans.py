"""Prefers the plan that ``edgebone tune`` measured on this machine. Pure, like select."""

from __future__ import annotations

from edgebone.core.machine import Machine
from edgebone.core.manifest import Manifest
from edgebone.engines.select import Choice, check
from edgebone.engines.spec import Candidate, Fit, Reject


def planned(manifest: Manifest, machine: Machine) -> Candidate | None:
    """Return the candidate of this machine's plan; None if the bundle has no plan for it."""
    plan = manifest.plans.get(machine.key)
    if plan is None:
        return None
    return Candidate(plan.engine, plan.precision, plan.variant, plan.hint, plan.threads, plan.batch)


def unmeasured(manifest: Manifest, machine: Machine, choice: Choice) -> list[str]:
    """Return the engines that fit now but were not installed when the machine's plan was measured."""
    plan = manifest.plans.get(machine.key)
    if plan is None or not plan.engines:
        return []
    here = dict.fromkeys(fit.candidate.engine for fit in choice.fits)
    return [engine for engine in here if engine not in plan.engines]


def plan_first(plan: Candidate, choice: Choice, machine: Machine, manifest: Manifest) -> Choice:
    """Put the plan's candidate before the others, unless the plan predates an engine that is installed now.

    A plan that is not followed is listed with the reason.
    """
    verdict = check(plan, machine, manifest.variants[plan.variant])
    if isinstance(verdict, Reject):
        return Choice(choice.fits, (verdict, *choice.rejects))
    measured = manifest.plans[machine.key]
    if new := unmeasured(manifest, machine, choice):
        reason = f"the plan was measured without {', '.join(new)}"
        return Choice(choice.fits, (Reject(plan, reason), *choice.rejects))
    reason = f"the plan measured on this machine: {measured.p50_ms:.2f} ms, {measured.fps:.0f} fps"
    return Choice((Fit(plan, reason), *choice.fits), choice.rejects)
