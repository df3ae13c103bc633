"""The texts of ``diffsegkit new-plugin``: a package for each kind of component."""
