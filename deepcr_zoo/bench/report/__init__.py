"""The report of a benchmark: one HTML page with tables and pictures. Figures and wording live here, decisions do not."""
