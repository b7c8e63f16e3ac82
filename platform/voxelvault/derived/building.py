"""Building copies: what is missing or stale is made by threads or workers, and committed in groups.

A build that was stopped, by Ctrl-C or worse, is taken up where it was by running it again: what is
committed stays, and objects that nothing names are swept by a later build, or a repair, after a day.
"""

from __future__ import annotations

import os
import pickle
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from functools import partial

from voxelvault.audit.events import Kind, Outcome
from voxelvault.derived.cache import Cache, MaskPlans, mask_plans, sort_out
from voxelvault.derived.committing import FULL, Committer, Finished
from voxelvault.derived.making import Bench, Job, Made, attempt, attempt_lent, copies
from voxelvault.derived.recipe import AnyRecipe, Recipe
from voxelvault.derived.shelf import derived_objects, remove, sweep, touch
from voxelvault.derived.stopping import LOOK, Wish, stopping
from voxelvault.errors import UsageError, VoxelVaultError, WorkerDied
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.reading.lending import lend
from voxelvault.reading.many import OpenedMany, open_many
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources

Advance = Callable[[int], object]
Outcomes = tuple[Made, ...] | str
Running = dict[Future[Outcomes], tuple[Job, Mapping[str, bytes]]]
Submit = Callable[[Job, Mapping[str, bytes]], Future[Outcomes]]

WINDOW = 3
"""Jobs handed out for each worker: enough to keep it busy, few enough to stop soon."""
CHANGED = "changed while it was built; run again"


def build_cache(
    resources: Resources,
    series_ids: Sequence[str],
    recipe: AnyRecipe,
    *,
    cohort_id: str | None = None,
    executor: Executor | None = None,
    limit_bytes: int | None = None,
    advance: Advance | None = None,
) -> Cache:
    """Make the copies that a recipe says, where there are no fresh ones.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_ids : sequence of str
        Opaque ids.
    recipe : Recipe or FrameRecipe
        What they become.
    cohort_id : str, optional
        The frozen cohort that they belong to; the log names it instead of them.
    executor : concurrent.futures.Executor, optional
        Threads, processes started by spawn or forkserver, or a Dask client's executor; by default
        threads, one a core. Other processes get keys on loan, and must be of this one's family.
    limit_bytes : int, optional
        Most bytes that all copies of the vault may take; those used least recently make room.
    advance : callable, optional
        Called with the number of series done.

    Returns
    -------
    Cache
        The fresh copies, and which series were refused and why.

    Raises
    ------
    UsageError
        None of the series has a segment of that name, or none can become what the recipe says.
    PolicyDenied, AuditError
        Then nothing was read.
    NoSpace, StorageError, IntegrityError, KeyUnavailable, WorkerDied
        What was made before stays.
    """
    require(
        resources.policy, Request(Kind.DERIVED_BUILT, tuple(series_ids), resources.purpose, resources.who)
    )
    require_writable(resources)
    sweep(resources)
    plans = mask_plans(resources, series_ids, recipe)
    _check_labels(recipe, plans)
    before = sort_out(resources, series_ids, recipe, plans)
    touch(resources, [entry for several in before.kept.values() for entry in several])
    spare = [entry for series_id in before.kept for entry in before.old.get(series_id, ())]
    if spare:
        remove(resources, spare, cohort_id)
    advance = advance or (lambda _: None)
    advance(len(before.kept) + len(plans.refused))
    committer = Committer(resources, recipe, before, plans, cohort_id, limit_bytes)
    if before.todo:
        _build(resources, before.todo, recipe, plans, committer, cohort_id, executor, advance)
    after = sort_out(resources, series_ids, recipe, plans)
    lost = [found for found in after.todo if found not in committer.refused]
    refused = committer.refused | dict.fromkeys(lost, CHANGED)
    if refused and not after.kept and not lost and not committer.full:
        raise UsageError(_nothing(refused))
    built = len(after.kept.keys() & committer.made)
    gone = committer.evicted, committer.evicted_bytes
    return Cache(recipe, after.kept, built, len(after.kept) - built, refused, plans.without, resources, *gone)


def _nothing(refused: Mapping[str, str]) -> str:
    """Return why a recipe, most likely mistaken, suits no series: its commonest reasons."""
    reasons = Counter(refused.values()).most_common(3)
    told = "; ".join(f"{reason} ({count} series)" for reason, count in reasons)
    return f"none of these {len(refused)} series can be cached like this: {told}"


def _check_labels(recipe: AnyRecipe, plans: MaskPlans) -> None:
    """Refuse a mask that would be empty everywhere: most likely its label is mistyped."""
    if not isinstance(recipe, Recipe) or plans.refused:
        return
    sources = [source for plan in plans.plans.values() for source in plan.sources]
    found = {value for source in sources for _, value in source.values}
    unknown = [label for value, label in enumerate(recipe.masks, 1) if value not in found]
    if unknown:
        raise UsageError(
            f"none of these series has a segment {', '.join(map(repr, unknown))}; see `segmentations`"
        )


def _build(
    resources: Resources,
    todo: Sequence[str],
    recipe: AnyRecipe,
    plans: MaskPlans,
    committer: Committer,
    cohort_id: str | None,
    executor: Executor | None,
    advance: Advance,
) -> None:
    with stopping() as wish, ExitStack() as held:
        segmentations = {found for series_id in todo for found in plans.sources_of(series_id)}
        wanted = [*todo, *sorted(segmentations)]
        opened = open_many(resources, wanted, kind_code="cache", cohort_id=cohort_id)
        held.callback(opened.close)
        threads = resources.options.threads or os.cpu_count() or 1
        if executor is None:
            executor = pool = ThreadPoolExecutor(threads)
            held.callback(lambda: pool.shutdown(wait=not wish.insisted))
        here = isinstance(executor, ThreadPoolExecutor)
        submit = (_here if here else _elsewhere)(resources, opened, executor)
        committer.begin(len(todo))
        try:
            _run(_jobs(opened, todo, recipe, plans), submit, WINDOW * threads, committer, advance, wish)
        except BaseException:
            committer.end(Outcome.PARTIAL)
            raise
        committer.end(Outcome.PARTIAL if committer.refused else Outcome.OK)


def _jobs(opened: OpenedMany, todo: Sequence[str], recipe: AnyRecipe, plans: MaskPlans) -> Iterator[Job]:
    for series_id in todo:
        plan = plans.plans.get(series_id)
        ids = tuple(new_id() for _ in range(copies(opened.series(series_id), recipe, plan)))
        yield Job(series_id, recipe, ids, plan)


def _run(
    jobs: Iterator[Job], submit: Submit, window: int, committer: Committer, advance: Advance, wish: Wish
) -> None:
    """Keep workers busy until all is done, or nothing more fits, or it is stopped."""
    running: Running = {}
    keys: Mapping[str, bytes]
    try:
        while True:
            if wish.asked:
                raise KeyboardInterrupt
            while len(running) < window and not committer.full:
                job = next(jobs, None)
                if job is None:
                    break
                keys = {derived_id: secrets.token_bytes(32) for derived_id in job.ids}
                running[submit(job, keys)] = job, keys
            if not running:
                break
            for future in wait(running, LOOK, FIRST_COMPLETED).done:
                _take(future, *running.pop(future), committer)
                advance(1)
    except BaseException:
        _wind_up(running, committer, wish)
        raise
    for job in jobs:
        committer.refused[job.series_id] = FULL


def _wind_up(running: Running, committer: Committer, wish: Wish) -> None:
    """Let those at work finish, so that nothing made is lost; unless they are not to be waited for."""
    for future in running:
        future.cancel()
    left = {future for future in running if not future.cancelled()}
    while left and not wish.insisted:
        wish.tell()
        left = wait(left, LOOK).not_done
    for future, (job, keys) in running.items():
        if future in left:
            future.add_done_callback(partial(_throw_away, job, keys, committer))
        elif not future.cancelled() and future.exception() is None:
            _take(future, job, keys, committer)


def _throw_away(job: Job, keys: Mapping[str, bytes], committer: Committer, future: Future[Outcomes]) -> None:
    """Remove what was made after nobody waited for it; what can't be is swept by a later build."""
    if future.cancelled() or future.exception() is not None:
        return
    made = future.result()
    if not isinstance(made, str):
        with suppress(VoxelVaultError):
            committer.discard([Finished(job, made, keys)])


def _take(future: Future[Outcomes], job: Job, keys: Mapping[str, bytes], committer: Committer) -> None:
    """Take what a worker made; a series that can't become this is refused, and the rest goes on."""
    try:
        made = future.result()
    except BrokenExecutor:
        raise WorkerDied("a worker process was killed; build again: what was made before is kept") from None
    if isinstance(made, str):
        committer.refused[job.series_id] = made
    else:
        committer.add(Finished(job, made, keys))


def _here(resources: Resources, opened: OpenedMany, executor: Executor) -> Submit:
    """Return what does jobs in threads of this process."""
    sealed = derived_objects(resources)

    def submit(job: Job, keys: Mapping[str, bytes]) -> Future[Outcomes]:
        bench = Bench(opened.packs, opened.handle, sealed, keys.__getitem__)
        return executor.submit(attempt, opened.series(job.series_id), job, bench)

    return submit


def _elsewhere(resources: Resources, opened: OpenedMany, executor: Executor) -> Submit:
    """Return what sends jobs to other processes, each with a loan of what it needs."""
    every = {row["pack_id"]: row for row in opened.pack_rows()}

    def submit(job: Job, keys: Mapping[str, bytes]) -> Future[Outcomes]:
        source = opened.series(job.series_id)
        rows = {row["pack_id"]: row for row in source.packs}
        rows |= {pack_id: every[pack_id] for pack_id in (job.plan.pack_ids if job.plan else ())}
        payload = pickle.dumps((source, job))
        loan = lend(resources, opened.handle, rows.values(), payload, extra_keys=keys, mode="write")
        return executor.submit(attempt_lent, loan)

    return submit


__all__ = ["build_cache"]
