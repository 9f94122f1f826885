"""A contract for import-linter: a package imports certain packages and the standard library, nothing else."""

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class OnlyContract(Contract):
    """A package imports only allowed packages, itself and the standard library.

    Options:
        package: the package.
        allowed: names of the packages that it may import.
        exceptions: `module -> package` pairs that are allowed besides.
    """

    type_name = "only"
    package = fields.StringField()
    allowed = fields.ListField(subfield=fields.StringField())
    exceptions = fields.ListField(subfield=fields.StringField(), required=False, default=[])

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find every direct import that is not allowed, also those inside functions and for types alone."""
        package, permitted, exceptions = str(self.package), _texts(self.allowed), _texts(self.exceptions)
        allowed = {package, *permitted, *sys.stdlib_module_names}
        found = []
        for module in sorted({package, *graph.find_descendants(package)}):
            for imported in sorted(graph.find_modules_directly_imported_by(module)):
                pair = f"{module} -> {imported.partition('.')[0]}"
                if imported.partition(".")[0] not in allowed and pair not in exceptions:
                    lines = [
                        each["line_number"] for each in graph.get_import_details(importer=module, imported=imported)
                    ]
                    found.append(f"{module} -> {imported} (line {', '.join(map(str, lines))})")
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Name both modules of each import."""
        for line in check.metadata["found"]:
            output.print_error(f"{line} is not allowed")


def _texts(field: object) -> list[str]:
    """Return the value of a list field, which import-linter sets in place of the field's declaration."""
    return [str(value) for value in field] if isinstance(field, list) else []
