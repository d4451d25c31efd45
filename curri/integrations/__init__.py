"""Adapters for the libraries of others; each module needs the library it is named after."""
