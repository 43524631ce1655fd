"""The routes: one file per resource, one table (``table.py``) that names them all."""
