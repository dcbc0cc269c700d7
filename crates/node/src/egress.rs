//! "What exactly left my site": per study, layout, cells, bytes, to whom, under which approval.

use crate::NodeError;
use crate::control::Reply;
use crate::core::Node;
use crate::store::Egress;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Study, run, stage, kind, receiver, approval and layout of frames that stand in one line.
type Key = (String, u32, u32, String, String, i64, String);

#[derive(Default)]
struct Line {
    frames: u64,
    cells: u64,
    bytes: u64,
}

impl Node {
    /// The report on everything handed to the hub since `since` (milliseconds). Statements on the record are not in
    /// it: `comity record list` shows those.
    pub fn egress_report(&self, since: i64) -> Result<Reply, NodeError> {
        let rows = self.store.egress(since)?;
        let mut lines: BTreeMap<Key, Line> = BTreeMap::new();
        for Egress { study, run, stage, kind, to, approval, layout, bytes, cells, .. } in &rows {
            let key = (study.clone(), *run, *stage, kind.clone(), to.clone(), *approval, layout.clone());
            let line = lines.entry(key).or_default();
            line.frames += 1;
            line.cells += cells;
            line.bytes += bytes;
        }
        let mut studies: Vec<&String> = self.state.studies.keys().collect();
        studies.sort();
        let mut text = String::from(
            "study            run stage what          to     frames   cells      bytes  approval      layout\n",
        );
        for ((study, run, stage, kind, to, approval, layout), l) in &lines {
            let approval = if *approval < 0 { "-".to_string() } else { format!("entry {approval}") };
            let layout = layout.get(..12).unwrap_or("-");
            let study = if study.is_empty() { "(all)" } else { study };
            let _ = writeln!(
                text,
                "{study:<16} {run:>3} {stage:>5} {kind:<13} {to:<6} {:>6} {:>7} {:>10}  {approval:<12}  {layout}",
                l.frames, l.cells, l.bytes
            );
        }
        let mut totals = BTreeMap::new();
        for id in studies {
            let of = |kind: &str| {
                rows.iter().filter(|e| e.study == *id && e.kind == kind).map(|e| e.bytes).sum::<u64>()
            };
            let contribution = of("contribution");
            let _ = writeln!(text, "{id}: {contribution} bytes of contribution left this site");
            totals.insert(
                id.clone(),
                json!({ "contribution": contribution, "aggregate": of("aggregate"), "opening": of("opening"), "output": of("output") }),
            );
        }
        Ok(Reply::yes(text, json!({ "since": since, "rows": rows, "totals": totals })))
    }
}
