"""What `cohort.cache` calls: a recipe from its arguments, a progress bar, a build."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

from voxelvault.derived.building import build_cache
from voxelvault.derived.cache import Cache
from voxelvault.derived.recipe import AnyRecipe
from voxelvault.display.progress import Progress
from voxelvault.resources import Resources


def cache_series(
    resources: Resources,
    series_ids: Sequence[str],
    recipe: AnyRecipe,
    *,
    cohort_id: str | None = None,
    executor: Executor | None = None,
    progress: bool = True,
    limit_bytes: int | None = None,
) -> Cache:
    """Build a cache behind a progress bar; see `build_cache`."""
    shown = None if progress else False
    with Progress("cache", len(series_ids), unit="series", shown=shown) as bar:
        return build_cache(
            resources,
            series_ids,
            recipe,
            cohort_id=cohort_id,
            executor=executor,
            limit_bytes=limit_bytes,
            advance=bar.advance,
        )


__all__ = ["cache_series"]
