"""Building blocks of HTML reports: pages, tables, image galleries and plotly figures."""
