"""What happens around a run. Each hook makes one call; nothing here decides a result."""

from __future__ import annotations

from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline


class CurriculumHooks:
    """Preflight before a run, its progress, and the report after it."""

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Refuse mistyped parameters, before Kedro makes a catalog of them."""
        from curricle.pipeline_registry import register_pipelines
        from curricle.planning.parameters import check_parameters

        check_parameters(context.config_loader["parameters"], register_pipelines())

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any
    ) -> None:
        """Refuse what cannot end well and say what has no effect, before any node runs."""
        from curricle.pipeline_registry import register_pipelines, stage_specs
        from curricle.planning.preflight import preflight

        given = run_params["runtime_params"] or {}
        preflight(pipeline, catalog, register_pipelines(), stage_specs(), given)

    @hook_impl
    def after_node_run(self, outputs: dict[str, Any]) -> None:
        """Say that a gate opened."""
        from curricle.reporting.progress import announce

        announce(outputs)

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any
    ) -> None:
        """Report what stands after a run that went through."""
        from curricle.pipeline_registry import stage_specs
        from curricle.reporting.report import report

        report(run_params, pipeline, catalog, stage_specs())

    @hook_impl
    def on_pipeline_error(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any
    ) -> None:
        """Report what stands after a run that did not, by the same call."""
        from curricle.pipeline_registry import stage_specs
        from curricle.reporting.report import report

        report(run_params, pipeline, catalog, stage_specs())
