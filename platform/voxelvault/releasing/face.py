"""What a selection offers for releases. Mixed into `Selection`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from voxelvault.releasing.deidentify import ReleaseReport, Rules
    from voxelvault.resources import Resources

PathLike = str | os.PathLike[str]


class Chosen(Protocol):
    """What this room needs of a selection."""

    @property
    def resources(self) -> Resources:
        """The open vault."""

    @property
    def cohort_id(self) -> str | None:
        """Opaque id of the frozen cohort."""

    def readable_ids(self) -> tuple[str, ...]:
        """Return the ids of the series to open."""


class Releasable:
    """A selection, de-identified."""

    def deidentify(
        self: Chosen,
        out: PathLike,
        *,
        profile: str = "research",
        options: Sequence[str] = (),
        rules: PathLike | None = None,
        faces: str | None = None,
        format: str = "vault",
        resample: bool = False,
        project: PathLike | None = None,
        review: PathLike | None = None,
        progress: bool = True,
        client: Any = None,
        unsafe_spill: bool = False,
    ) -> ReleaseReport:
        """De-identify these series into a release: a vault of its own, or a folder.

        Nothing passes that no rule let through; each written file is searched for the patient's own
        values by a second reader; what can't be cleaned is left out, and told. The same call goes on
        after an interruption.

        Parameters
        ----------
        out : path
            A new or empty folder.
        profile : {"research", "basic"}
            PS3.15's Basic Profile to the letter, or that with cleaned descriptors and moved dates.
        options : sequence of str
            Further options, such as ``"retain_device"``: values of `voxelvault.deid.model.Option`.
        rules : path, optional
            A site's own rules: TOML, a CTP script, or a recipe of pydicom's deid.
        faces : {"deface", "refuse", "keep"}, optional
            What to do where a face can be made out; without, that is an error which asks.
        format : {"vault", "dicom", "nifti", "ome-zarr", "parquet"}
            What the release is: a vault of its own, DICOM files with a DICOMDIR, volumes, or tables of
            the headers.
        resample : bool
            Of volumes: interpolate uneven slices, instead of leaving such series out.
        project : path or str, optional
            Whose pseudonyms: a project's folder, or the id of one inside this vault; by default the
            vault's only one, made at the first release.
        review : path, optional
            Write a page of what was blanked in pictures and of faces that were taken off, before and
            after. It shows patients' own values: readable by you alone, never inside the release.
        progress : bool
            Show a progress bar.
        client, unsafe_spill : optional
            Workers that do it, as for `Vault.ingest`: ``"local"``, a scheduler's address, a Dask client.

        Returns
        -------
        ReleaseReport
            What became of every file; `.path` opens with `voxelvault.open` where it is a vault, and
            `.recovery_code` is shown once.

        Raises
        ------
        UsageError
            A choice that can't be, or a face can be made out and nobody said what to do.
        KeyUnavailable
            This user is no custodian of the project.
        """
        from voxelvault.deid.model import Option
        from voxelvault.errors import UsageError
        from voxelvault.releasing.deidentify import Rules
        from voxelvault.releasing.site import site_rules

        unknown = sorted(set(options) - set(Option))
        if unknown:
            raise UsageError(f"there is no such option; choose of {', '.join(Option)}")
        site = None if rules is None else site_rules(Path(rules).expanduser())
        chosen = Rules(profile, tuple(Option(option) for option in options), site, faces)
        given: Any = {"format": format, "resample": resample, "project": project, "review": review}
        return Releasable.release(
            self, out, chosen, **given, progress=progress, client=client, unsafe_spill=unsafe_spill
        )

    def release(
        self: Chosen,
        out: PathLike,
        rules: Rules,
        *,
        format: str = "vault",
        resample: bool = False,
        project: PathLike | None = None,
        map_file: Path | None = None,
        review: PathLike | None = None,
        progress: bool = True,
        client: Any = None,
        unsafe_spill: bool = False,
    ) -> ReleaseReport:
        """Release these series by rules that were read already; see `deidentify`."""
        from voxelvault.cluster.entering import crew_of
        from voxelvault.display.progress import Progress
        from voxelvault.releasing.deidentify import Extras
        from voxelvault.releasing.from_vault import deidentify

        series_ids = self.readable_ids()
        bar = Progress("deidentify", shown=None if progress else False)
        with bar, crew_of(self.resources, client, unsafe_spill=unsafe_spill) as crew:
            return deidentify(
                self.resources,
                series_ids,
                out,
                rules,
                format=format,
                resample=resample,
                project=project,
                cohort_id=self.cohort_id,
                extras=Extras(map_file, review=None if review is None else Path(review), advance=bar.advance),
                crew=crew,
            )


__all__ = ["Releasable"]
