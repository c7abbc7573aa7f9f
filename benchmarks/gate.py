"""How well *valid* predicts *confirmed*: ``python benchmarks/gate.py RUN …`` on audits that rendered their failures.

Every failure that was rendered counts, of all attributes together and of each alone. Precision is the share of failures
let through that rendering confirms, recall the share of confirmed ones that are let through: for the gate as it is,
without each of its rules, with each alone, and with one more, left out: that the verifier's readings of what was
moved agree with how far it was moved (root mean square of the differences, in what each reading is off by). Use people
that no setting of the gate was chosen on. Intervals are Wilson's, over faces.
"""

import argparse

import numpy as np
import pandas as pd

from sia_gen.audits.evidence.statistics import wilson
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.targets.verifier import load_verifier

AGREES = 1.5


def failures(folder, factors):
    """Failures of a run that were rendered, one row each, with what the gate's rules say of them."""
    report = AuditReport.load(folder)
    settings = report.histogram["settings"]
    if settings["confirmed_by"] is None:
        raise SystemExit(f"'{folder}' confirms nothing; audit with --confirm")
    table = report.to_pandas()
    before = table[table.arm == "pixel"].set_index("face")
    table = table[table.confirmed.notna() & table.success & (table.arm != "joint")]
    apart = np.zeros((len(table), 0))
    for name in settings["attributes"]:
        if f"read_{name}" not in table or name not in factors:
            continue
        factor = factors[name]
        read = table[f"read_{name}"].to_numpy() - before.loc[table.face, f"read_{name}"].to_numpy()
        far = (read / factor.follows - table[f"omega_{name}"].fillna(0).to_numpy()) / factor.off
        apart = np.column_stack([apart, np.where(table[f"omega_{name}"].isna(), np.nan, far)])
    person = settings["gate"]["same_person"]
    return pd.DataFrame(
        {
            "target": settings["target"],
            "face": table.face,
            "confirmed": table.confirmed.astype(bool),
            "valid": table.valid.fillna(False).astype(bool),
            "label read": table.label_kept.fillna(True).astype(bool),
            "label's reading still": (table.drift.fillna(0) <= 1),
            "likely face": table.distance <= 1,
            "same person": table.likeness.fillna(1) >= (person or 0),
            "readings agree": np.sqrt(np.nanmean(apart**2, axis=1)) <= AGREES,
        }
    )


def line(what, passed, rows):
    """A row of the table for the failures that a rule lets through."""
    through, sound = rows[passed], rows[rows.confirmed]
    count = int(through.confirmed.sum())
    interval = wilson(count, len(through), through.face.nunique()) if len(through) else (0, 1)
    precision = f"{count / len(through):.0%} ({interval[0]:.0%}–{interval[1]:.0%})" if len(through) else "–"
    recall = f"{count / len(sound):.0%}" if len(sound) else "–"
    print(f"| {what} | {len(through)} | {precision} | {recall} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    factors = {factor.name: factor for factor in load_verifier().factors}
    found = pd.concat([failures(run, factors) for run in parser.parse_args().runs], ignore_index=True)
    rules = ["label read", "label's reading still", "likely face", "same person"]
    for target, rows in [("all", found), *found.groupby("target")]:
        print(f"\n{target}: {len(rows)} failures rendered, {rows.confirmed.sum()} confirmed\n")
        print("| let through by | failures | precision | recall |\n| --- | --- | --- | --- |")
        line("nothing asked", rows.confirmed.notna(), rows)
        for rule in rules:
            line(f"{rule} alone", rows[rule], rows)
        for rule in rules:
            line(f"all but {rule}", rows[[other for other in rules if other != rule]].all(axis=1), rows)
        line("the gate (valid)", rows.valid, rows)
        line("and readings agree", rows.valid & rows["readings agree"], rows)


if __name__ == "__main__":
    main()
