"""Step ``pull-dos``: computed densities of states of a source to one checked table."""

import logging

import numpy as np

from hclmp.config import Config
from hclmp.data.composition import vocabulary_of
from hclmp.data.elements import check_elements
from hclmp.data.formula import Fractions, parse_formulas
from hclmp.data.tables import DosTable, write_dos
from hclmp.data.units import check_unit
from hclmp.files import write_json
from hclmp.pipeline.jobs import Job
from hclmp.sources.raw import RawDos, check_dos
from hclmp.sources.registry import read_dos

log = logging.getLogger(__name__)


def pull_dos(config: Config, job: Job) -> None:
    """Read and check the densities of states; a record holds their origin and counts.

    Raises:
        UserError: bad input; nothing is written then.
    """
    raw, parsed = checked_dos(config)
    check_unit(raw.unit, f"{raw.origin}: density of states")
    check_unit(raw.grid.unit, f"{raw.origin}: energies")
    facts = raw.facts | {
        "materials": len(parsed),
        "elements": list(vocabulary_of(parsed)),
        "simulated": raw.simulated,
    }
    result = DosTable(
        material_id=raw.material_id,
        formula=[str(formula) for formula in raw.formula],
        dos=raw.dos.astype(np.float32),
        grid=raw.grid,
        unit=raw.unit,
        norm=raw.norm,
        reference=raw.reference,
        simulated=raw.simulated,
        provenance=job.provenance() | {"origin": raw.facts},
    )
    kind = "simulated " if raw.simulated else ""
    log.info(
        "%s: %d %sdensities of states of %d elements, %d energies from %g to %g %s",
        *(raw.origin, len(result), kind, len(facts["elements"])),
        *(raw.grid.n, raw.grid.start, raw.grid.stop, raw.grid.unit),
    )
    write_dos(job.outputs["table"], result)
    # in the record alone: the table's bytes do not depend on when its data were downloaded
    volatile = {"download": raw.volatile} if raw.volatile else {}
    write_json(job.outputs["record"], {"provenance": result.provenance, "facts": facts} | volatile)


def checked_dos(config: Config) -> tuple[RawDos, list[Fractions]]:
    """The densities of states of the source and their compositions, all but the units checked.

    Raises:
        UserError: bad input.
    """
    raw = read_dos(config.dos)
    parsed = parse_formulas(
        raw.formula, left_out=config.targets.left_out, origin=f"{raw.origin}, formulas"
    )
    check_dos(raw)
    check_elements(parsed, raw.formula, [config.model.embedding], origin=raw.origin)
    return raw, parsed
