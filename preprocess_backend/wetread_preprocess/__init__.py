"""Film preprocessing: DICOM bytes to the classifier's IMAGE."""
