# Debian's r-cran-lme4 brings the ratings: 73,421 lectures of 1,128 lecturers, rated from 1 to 5 by 2,972 students.
data(list = "InstEval", package = "lme4")
ratings <- data.frame(student = InstEval$s, lecturer = InstEval$d, rating = InstEval$y)
write.csv(ratings, "ratings.csv", row.names = FALSE)
