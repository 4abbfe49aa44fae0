"""What several modules agree on about their input."""

NO_LABEL = -1  # the label of an image whose class is not given
