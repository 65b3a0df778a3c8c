"""The configuration of what enters: measured properties and computed densities of states."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hclmp.config.base import Positive, Section


class PropertyConfig(Section):
    """One property of the targets."""

    unit: str = ""
    """Unit of the values in the table (`eV`, `GPa`, `1/cm`); it is shown beside the values."""
    transform: Literal["identity", "log10"] = "identity"
    """What the models learn: the value itself, or its log10 (values must be positive)."""
    coordinate: float | None = None
    """Position of the property on a common axis (a photon energy, say); it orders and labels
    plots."""
    minimum: float | None = None
    """The smallest possible value (0 of a positive property). Predictions and their intervals stay
    above it; a smaller value in the table is an error. Null: none."""
    maximum: float | None = None
    """The largest possible value (1 of a fraction), likewise."""

    @model_validator(mode="after")
    def _in_order(self) -> "PropertyConfig":
        low, high = self.minimum, self.maximum
        if low is not None and high is not None and low >= high:
            raise ValueError(f"`minimum` ({low:g}) must be less than `maximum` ({high:g})")
        if self.transform == "log10" and high is not None and high <= 0:
            raise ValueError("`maximum` of a property learned as log10 must be positive")
        return self


class PlatesConfig(Section):
    """How `source: plates` reads printed plates of metal oxides (CaltechDATA g1tyb-nje27)."""

    quantity: Literal["absorbance", "transmission"] = "absorbance"
    """The property: `absorbance`, -log10(transmission), or the `transmission` itself."""
    outlier: Annotated[float, Field(gt=0)] = 5.0
    """A patch is an outlier if, at any wavelength, it is farther from the median of its replicas
    than this number of robust standard deviations (1.4826 median absolute deviations). Outliers are
    counted and left out of the mean. With fewer than 7 replicas there are no outliers. At 5 and ten
    replicas, about 4 % of good, normally distributed patches are lost."""


class TargetsConfig(Section):
    """The measured properties: what is to be predicted."""

    source: Literal["demo", "table", "reference", "plates"] = "demo"
    """`demo`: simulated oxides that ship with hclmp. `table`: a CSV or Parquet file of yours.
    `reference`: the paper's archive, `data.zip` or its folder. `plates`: the folder `ten_replicas`
    of CaltechDATA g1tyb-nje27, optical transmission of printed metal oxides."""
    path: str | None = None
    """The file or folder of a source other than `demo`, relative to the working directory."""
    formula_column: str = "formula"
    """`table` only. The column that holds the formula, as pymatgen reads it (`Fe2O3`,
    `Fe0.25Ti0.5W0.25`)."""
    composition_columns: list[str] = []
    """`table` only. Instead of a formula: columns that are named after elements and hold their
    amounts (in any unit: each row is divided by its sum; blank is 0)."""
    properties: dict[str, PropertyConfig] = {}
    """Column -> unit, transform and coordinate. Empty: every column other than the formula,
    `sample_id`, `system`, `split_column` and `*_std` is a property, untransformed, in the unit
    that the file's metadata gives, if any."""
    allow_missing: bool = False
    """`table` only. Accept blank property cells: losses and metrics then use the values that are
    there. Rows without any value are left out and counted."""
    split_column: str | None = None
    """`table` only. The column that says `train`, `val` or `test`, for `split: column`; rows where
    it is blank are in no set."""
    left_out: list[str] = ["O"]
    """Elements dropped before fractions are normalised to 1; `[O]` gives cation fractions."""
    plates: PlatesConfig = PlatesConfig()
    """`plates` only."""
    limit: Positive | None = None
    """For a quick trial: use only this number of compositions (`demo`) or rows. Null: all."""

    @model_validator(mode="after")
    def _belongs_together(self) -> "TargetsConfig":
        if (self.source != "demo") != (self.path is not None):
            raise ValueError(
                "`path` names the file or folder of a source of yours; `demo` has none"
            )
        if self.source != "table":
            if self.source == "demo" and self.properties:
                raise ValueError("the demo brings its own properties: leave `properties` empty")
            for key in ("composition_columns", "allow_missing", "split_column"):
                if getattr(self, key):
                    raise ValueError(f"`{key}` is for `source: table` alone")
        return self


class EnergiesConfig(Section):
    """The energy grid of the density of states."""

    start: float = -8.0
    """First energy, in `unit`, relative to the reference (the Fermi level for electrons)."""
    stop: float = 8.0
    """Last energy, in `unit`."""
    n: Annotated[int, Field(gt=1)] = 161
    """Number of energies (D)."""
    unit: str = "eV"
    """Unit of the grid: `eV` for electrons, `1/cm` for phonons."""

    @model_validator(mode="after")
    def _ascending(self) -> "EnergiesConfig":
        if self.start >= self.stop:
            raise ValueError(f"`start` ({self.start:g}) must be less than `stop` ({self.stop:g})")
        return self


# fmt: off
PAPER_CATIONS = [
    "Ag", "Ba", "Bi", "Ca", "Ce", "Co", "Cr", "Cu", "Er", "Eu", "Fe", "Ga", "Gd", "Hf", "In", "K",
    "La", "Mg", "Mn", "Mo", "Nb", "Nd", "Ni", "P", "Pb", "Pd", "Pr", "Rb", "Sc", "Sm", "Sn", "Sr",
    "Tb", "Ti", "V", "W", "Yb", "Zn", "Zr",
]
# fmt: on


class MaterialsProjectConfig(Section):
    """Which densities of states of the Materials Project, and how they are resampled."""

    elements: list[str] = PAPER_CATIONS
    """Elements that an oxide may have besides oxygen (default: the paper's 39 cations)."""
    max_elements: Annotated[int, Field(ge=2)] = 4
    """Largest number of elements of an oxide, oxygen included."""
    exclude: list[str] = []
    """Elements (`Pb`) and materials (`mp-1234`) that are left out."""
    run_types: Annotated[list[str], Field(min_length=1)] = ["GGA", "GGA+U"]
    """Kinds of calculation whose DOS are used. If a material has several, the first in this list
    is."""
    norm: Literal["atom", "cation"] = "atom"
    """States are counted per `atom`, or per `cation` (atom other than oxygen)."""
    broadening: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation in eV of the Gaussian that broadens the resampled DOS; 0: none."""
    duplicates: Literal["keep", "lowest"] = "keep"
    """If several materials have one composition: `keep` all, or only the one with the `lowest`
    energy above hull."""


class DosConfig(Section):
    """The computed densities of states that the generator is trained on."""

    source: Literal["demo", "materials_project", "table", "reference", "none"] = "demo"
    """`demo`: simulated, for the demo's own targets. `materials_project`: pulled with your API key
    (`MP_API_KEY`). `table`: a Parquet file with a list column, or a CSV file with one column per
    energy. `reference`: the paper's archive, `data.zip` or its folder. `none`: no DOS, and no
    variant with `transfer`."""
    path: str | None = None
    """The file or folder of a source other than `demo`, `materials_project` and `none`, relative to
    the working directory."""
    formula_column: str = "formula"
    """`table` only. The column that holds the formula."""
    id_column: str | None = None
    """`table` only. The column that identifies a material. Null: `material_id` if there is one,
    else the row."""
    dos_column: str = "dos"
    """Parquet: the list column. (CSV: every column except formula and id is an energy.)"""
    unit: str = "states/eV/atom"
    """`table` only. Unit of the DOS values; it is shown beside the values."""
    held_out: Literal["keep", "drop"] = "keep"
    """`keep`: one generator, which may have seen the DOS of held-out systems (as in the paper: a
    computed DOS may exist without a measurement). `drop`: one generator per fold, trained without
    the DOS of the fold's systems and of their supersets."""
    energies: EnergiesConfig = EnergiesConfig()
    """The energy grid of the table or archive; DOS of the Materials Project are resampled onto
    it."""
    materials_project: MaterialsProjectConfig = MaterialsProjectConfig()
    """`materials_project` only."""
    limit: Positive | None = None
    """For a quick trial: use only this number of materials. Null: all."""

    @model_validator(mode="after")
    def _path_goes_with_files(self) -> "DosConfig":
        without = ("demo", "materials_project", "none")
        if (self.source not in without) != (self.path is not None):
            raise ValueError(
                "`path` names the file or folder of a source of yours; "
                f"{', '.join(f'`{name}`' for name in without)} have none"
            )
        if self.source == "materials_project" and self.energies.unit != "eV":
            raise ValueError("`energies.unit` of the Materials Project is eV")
        return self
