"""The site directory: what the user wants, as files. Read, checked and reported with file:line:column."""
