# Debian's r-cran-janeaustenr brings the six novels. A passage is 40 words; the answer is the novel that it is from.
titles <- c("emma", "mansfieldpark", "northangerabbey", "persuasion", "prideprejudice", "sensesensibility")
data(list = titles, package = "janeaustenr")
passages <- function(title) {
  words <- unlist(strsplit(paste(get(title), collapse = " "), "[[:space:]]+"))
  groups <- split(words, (seq_along(words) - 1) %/% 40)
  data.frame(novel = title, passage = vapply(groups, paste, "", collapse = " "))
}
write.csv(do.call(rbind, lapply(titles, passages)), "passages.csv", row.names = FALSE)
