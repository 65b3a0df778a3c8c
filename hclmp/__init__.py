"""H-CLMP(T): predict vectors of correlated materials properties from composition alone.

Kong, Guevarra, Gomes and Gregoire, *Materials representation and transfer learning for
multi-property prediction*, Appl. Phys. Rev. 8, 021409 (2021), arXiv:2106.02225.
"""

__version__ = "0.1.0"
