"""Answers as documents: a DICOM SR, a PDF, and that PDF as a DICOM object."""
