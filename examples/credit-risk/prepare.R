# Debian's r-cran-modeldata brings the table: 4,454 loans, with gaps where nothing is known.
data(list = "credit_data", package = "modeldata")
write.csv(credit_data, "credit.csv", row.names = FALSE, na = "")
