"""Names of countries, languages, scripts and currencies from Debian's iso-codes, English and French: names.csv."""
import csv
import gettext
import glob

pairs = {}
for path in sorted(glob.glob("/usr/share/locale/fr/LC_MESSAGES/iso_*.mo")):
    with open(path, "rb") as file:
        for english, french in gettext.GNUTranslations(file)._catalog.items():
            if isinstance(english, str) and english and french and "\n" not in english + french:
                pairs.setdefault(english.strip(), french.strip())
with open("names.csv", "w", encoding="utf-8", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["english", "french"])
    writer.writerows(pair for pair in sorted(pairs.items()) if max(map(len, pair)) <= 28)
