"""How plain diffusers finds our classes, so that a published model is one repository for m2m and for diffusers.

diffusers 0.42 imports no module that a repository names. From the hub it takes a component's class from diffusers or
transformers, or from a file of code beside the component; that file would then have to be trusted by every user of
`M2MPipeline` too. So a published index says ["diffusers", "M2MModel"]; our classes stand in diffusers' namespace as
soon as `m2m.pipeline` is imported; and the one file of code in the repository, `pipeline.py`, imports that
(`custom_pipeline="pipeline", trust_remote_code=True`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PIPELINE_FILE = "pipeline.py"
# import_module, for diffusers reads import statements and would advise `pip install m2m`, which is another package.
PIPELINE_CODE = '''"""M2MPipeline of the installed m2m-diffusion, for diffusers' custom_pipeline. Nothing else runs."""

from importlib import import_module

try:
    M2MPipeline = import_module("m2m.pipeline").M2MPipeline
except ModuleNotFoundError as error:
    if error.name not in ("m2m", "m2m.pipeline"):
        raise
    raise ImportError("this model needs the package m2m-diffusion: pip install m2m-diffusion") from None
'''


def register(*classes: type) -> None:
    """Make classes of ours names of diffusers; a name that it has itself stays its own."""
    import diffusers

    for own in classes:
        if not hasattr(diffusers, own.__name__):
            setattr(diffusers, own.__name__, own)


def published_index(index: Mapping[str, Any]) -> dict[str, Any]:
    """What `model_index.json` holds, with every component of a registered class a name of diffusers."""
    return {name: _published(value) for name, value in index.items()}


def _published(value: Any) -> Any:
    import diffusers

    if not (isinstance(value, list) and len(value) == 2 and str(value[0]).startswith("m2m.")):
        return value
    own = getattr(diffusers, str(value[1]), None)
    return ["diffusers", value[1]] if own is not None and own.__module__ == value[0] else value
