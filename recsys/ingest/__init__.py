"""From a company's files to accepted tables and a quarantine."""
