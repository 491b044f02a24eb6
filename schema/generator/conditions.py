"""Conditions: a definition, member or value with an 'if' exists only when it holds."""

from .lexer import SchemaError


def holds(condition, defines, place):
    """Whether `condition` holds: a name, {'all': [...]}, {'any': [...]} or {'not': ...}."""
    if isinstance(condition, str):
        return condition in defines
    if isinstance(condition, dict) and len(condition) == 1:
        (kind, rest), = condition.items()
        if kind == "not":
            return not holds(rest, defines, place)
        if kind in ("all", "any") and isinstance(rest, list) and rest:
            results = [holds(part, defines, place) for part in rest]
            return all(results) if kind == "all" else any(results)
    raise SchemaError(place, "'if' must be a name or one of 'all', 'any' and 'not'")
