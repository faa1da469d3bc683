"""The base of all settings. Each component owns its part of the run file."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen settings in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
