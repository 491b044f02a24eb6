"""Finds the places where a type contains itself by value and marks them as boxed.

An array may hold an incomplete type, so only plain members, bases and branches count. A cycle is
broken at an alternate if it goes through one, else at an optional member.
"""

from .model import Alternate, Array, Object


def _uses(kind):
    """Yields (type, member or None) for everything that `kind` holds by value."""
    if isinstance(kind, Object):
        if kind.base:
            yield kind.base, None
        for branch in kind.branch_types():
            yield branch, None
    for member in getattr(kind, "members", []):
        if isinstance(member.type, (Object, Alternate)) and not member.boxed:
            yield member.type, member


def components(types):
    """Strongly connected components, by Tarjan's algorithm; those of one type only if it uses
    itself."""
    index, low, stack, result = {}, {}, [], []

    def visit(kind):
        index[kind.name] = low[kind.name] = len(index)
        stack.append(kind)
        for used, _ in _uses(kind):
            if used.name not in index:
                visit(used)
                low[kind.name] = min(low[kind.name], low[used.name])
            elif any(entry.name == used.name for entry in stack):
                low[kind.name] = min(low[kind.name], index[used.name])
        if low[kind.name] == index[kind.name]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1].name == kind.name:
                    break
            if len(group) > 1 or any(used.name == kind.name for used, _ in _uses(kind)):
                result.append(group)

    for kind in types:
        if kind.name not in index:
            visit(kind)
    return result


def box_recursive_members(schema):
    """Marks members as boxed until no type contains itself."""
    types = [t for t in schema.types.values() if isinstance(t, (Object, Alternate))]
    breakers = [
        lambda kind, member: isinstance(kind, Alternate),
        lambda kind, member: member.optional,
    ]
    for breaker in breakers:
        for group in components(types):
            names = {kind.name for kind in group}
            for kind in group:
                for used, member in list(_uses(kind)):
                    if member and used.name in names and breaker(kind, member):
                        member.boxed = True
    remaining = components(types)
    if remaining:
        names = ", ".join(sorted(kind.name for kind in remaining[0]))
        raise ValueError(f"types contain themselves without an optional member: {names}")


def definition_order(types):
    """`types` sorted so that each comes after those it holds by value."""
    names = {kind.name for kind in types}
    done, order = set(), []

    def visit(kind):
        if kind.name in done or kind.name not in names:
            return
        done.add(kind.name)
        for used, _ in _uses(kind):
            visit(used)
        order.append(kind)

    for kind in types:
        visit(kind)
    return order


def by_value_array_elements(kind):
    """The types that arrays in `kind` hold; they may stay incomplete."""
    for member in getattr(kind, "members", []):
        element = member.type
        while isinstance(element, Array):
            element = element.element
            if isinstance(element, (Object, Alternate)):
                yield element
