"""H-CLMP(T): predict vectors of correlated materials properties from composition.

With transfer, a density of states is an input too: one that is generated from the composition, or
the computed one of a compound that has it (`dos.held_out: keep`).

Kong, Guevarra, Gomes and Gregoire, *Materials representation and transfer learning for
multi-property prediction*, Appl. Phys. Rev. 8, 021409 (2021), arXiv:2106.02225.
"""

CITATION = (
    "S. Kong, D. Guevarra, C. P. Gomes, J. M. Gregoire, Materials representation and transfer "
    "learning for multi-property prediction, Appl. Phys. Rev. 8, 021409 (2021), "
    "doi:10.1063/5.0047066"
)
__version__ = "0.1.0"
