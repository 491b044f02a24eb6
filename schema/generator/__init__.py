"""Turns the interface definition (schema/*.json) into C++, introspection data and documentation.

The stages, one module each:

    lexer, parser, docs   text -> expressions, with the place of each for messages
    model                 the checked interface: types, commands, events
    check                 expressions -> model, or an error that names file and line
    layout                which members must be boxed because types contain themselves
    emit_*                model -> files
"""
