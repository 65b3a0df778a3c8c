"""What all sections of the configuration share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NAME = r"^[a-z0-9_]+$"
Positive = Annotated[int, Field(gt=0)]
Sizes = tuple[Positive, ...]
Seed = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A mapping of the configuration; a key that it does not know is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
