"""The root group: our verbs, and those that packages add by the entry point group `voxelvault.verbs`."""

from __future__ import annotations

import click

from voxelvault.errors import PluginFailed


class Root(click.Group):
    """Finds added verbs by their name, when it is typed; ours come first and can't be taken over."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb.

        Raises
        ------
        UsageError
            Two packages add it, or its name is none.
        PluginFailed
            The package that adds it can't be loaded.
        """
        return super().get_command(ctx, cmd_name) or _added(cmd_name, self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of our verbs, those of pipelines that come with the package among them."""
        from voxelvault import plugins

        ours = [plugin.name for plugin in plugins.listed(plugins.VERBS, self.commands) if plugin.ours]
        return sorted([*super().list_commands(ctx), *ours])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write our verbs, then what packages add; nothing of theirs is loaded for it."""
        from voxelvault import plugins

        super().format_commands(ctx, formatter)
        found = [plugin for plugin in plugins.listed(plugins.VERBS, self.commands) if not plugin.ours]
        if found:
            with formatter.section("Added by other packages"):
                formatter.write_dl(
                    [
                        (plugin.name, f"of {plugin.package}" + (f": {plugin.problem}" * bool(plugin.problem)))
                        for plugin in found
                    ]
                )


def _added(name: str, group: click.Group) -> click.Command | None:
    from voxelvault import plugins

    made = plugins.load(plugins.VERBS, name, group.commands)
    if made is not None and not isinstance(made, click.Command):
        raise PluginFailed(f"the verb {name!r} that a package adds is no click command; mend or uninstall it")
    return made


__all__ = ["Root"]
