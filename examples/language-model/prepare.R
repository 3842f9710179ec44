# Debian's r-cran-janeaustenr brings the six novels; two of them are 1.6 MB of text.
data(list = c("emma", "prideprejudice"), package = "janeaustenr")
writeLines(c(emma, prideprejudice), "austen.txt")
