//! The federation that a day starts from: agreed, with schedules and datasets, made by the world's own honest run.

use crate::hubside::HubProcess;
use crate::process::Member;
use crate::truth::Truth;
use crate::world::{Counts, World};
use crate::{Failed, WorldError};
use charter::Charter;
use hub::{At, Books, HubConfig};
use node::{Command, Config, Node, Parts, Store};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use study::{Dictionary, Mapping};
use tempfile::TempDir;

const DICTIONARY: &str = include_str!("../../../studies/ist/dictionary.toml");
const MAPPING: &str = include_str!("../../../studies/ist/mapping.toml");
const DATASET: &str = "name = \"ist\"\ntitle = \"Rows of one country\"\nsource = \"ist.csv\"\nmapping = \"mapping.toml\"\n\
    dictionary = \"dictionary.toml\"\nlegal_basis = \"research (fictitious opinion)\"\npurposes = [\"stroke-research\"]\n\
    retention = \"2031-12-31\"\nprovenance = \"International Stroke Trial, doi 10.7488/ds/104\"\nspecial_category = true\n\
    impact_assessment = \"fictitious\"\noverlap = []\nby_site = false\n";

/// The eight of the simulated days: id, jurisdiction, the country of the generated trial whose rows it holds. `gb`
/// asks and receives, `ch` and `se` aggregate, `no` collects.
const EIGHT: [(&str, &str, Option<&str>); 8] = [
    ("gb", "GB", Some("POLA")),
    ("it", "IT", Some("NETH")),
    ("pl", "PL", Some("SWED")),
    ("nl", "NL", Some("AUSL")),
    ("be", "BE", Some("ARGE")),
    ("se", "SE", Some("NORW")),
    ("ch", "CH", None),
    ("no", "NO", None),
];
/// Rows that each site of the eight holds.
const ROWS: usize = 800;

/// A member to be.
pub struct Site {
    /// Its id.
    pub id: String,
    /// Its jurisdiction.
    pub jurisdiction: String,
    /// Its rows as CSV, if it holds any.
    pub rows: Option<String>,
}

/// What a federation is founded with.
pub struct Setup {
    /// The members.
    pub sites: Vec<Site>,
    /// Ids of those who may aggregate.
    pub pool: Vec<String>,
    /// Votes that a decision needs.
    pub quorum: u32,
}

/// What a simulated day asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// A table of two columns.
    Count,
    /// A table of one column over the same people.
    Single,
    /// A logistic regression: a round for each step.
    Regression,
}

impl Question {
    /// The id of a day's study.
    pub fn id(study: usize) -> String {
        format!("study-{study}")
    }

    /// Which study of the day it is.
    pub(crate) fn number(id: &str) -> Option<usize> {
        id.strip_prefix("study-")?.parse().ok()
    }

    /// The study of the eight.
    pub fn text(self, study: usize) -> String {
        let holders = EIGHT.iter().filter(|(.., rows)| rows.is_some()).map(|(id, ..)| (*id).to_string());
        let holders: Vec<String> = holders.collect();
        self.text_for(&Question::id(study), "gb", ["ch", "se"], "no", &holders)
    }

    /// The study as a document.
    pub fn text_for(
        self,
        id: &str,
        requester: &str,
        aggregators: [&str; 2],
        collector: &str,
        contributors: &[String],
    ) -> String {
        let (complete, analysis) = match self {
            Question::Count => {
                (&["death14", "aspirin"][..], "method = \"crosstab\"\nby = [\"death14\", \"aspirin\"]\n")
            }
            Question::Single => (&["death14", "aspirin"][..], "method = \"crosstab\"\nby = [\"death14\"]\n"),
            Question::Regression => (
                &["dead_dep_6m", "age", "sex"][..],
                "method = \"logistic\"\nformula = \"dead_dep_6m ~ age + sex\"\nevent = \"yes\"\nmax_rounds = 12\ngrid = 40\n",
            ),
        };
        let quoted = |ids: &[&str]| ids.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ");
        let names: Vec<&str> = contributors.iter().map(String::as_str).collect();
        format!(
            "id = \"{id}\"\ntitle = \"A question\"\npurpose = \"stroke-research\"\ndomain = \"health\"\n\
             requester = \"{requester}\"\ncollector = \"{collector}\"\naggregators = [{}]\n\
             recipients = [\"{requester}\"]\ndataset = \"ist\"\ncontributors = [{}]\nminimum_contributors = {}\n\
             dictionary = \"ist-core/1\"\nuntil = \"2030-12-31\"\n\n[protection]\nmin_cell = 11\n\
             min_hidden_sites = 3\n\n[population]\ncomplete = [{}]\n\n[[analysis]]\nid = \"answer\"\n{analysis}",
            quoted(&aggregators),
            quoted(&names),
            names.len(),
            quoted(complete)
        )
    }
}

impl Setup {
    /// The eight.
    pub fn eight() -> Setup {
        let site = |(id, jurisdiction, country): &(&str, &str, Option<&str>)| Site {
            id: (*id).to_string(),
            jurisdiction: (*jurisdiction).to_string(),
            rows: country.map(|c| rows_of(c, ROWS)),
        };
        Setup {
            sites: EIGHT.iter().map(site).collect(),
            pool: ["ch", "se"].map(String::from).to_vec(),
            quorum: 6,
        }
    }

    /// So many members, three at least: the parts of the eight first, then sites of the countries that have schedules,
    /// again and again.
    pub fn of(members: usize) -> Setup {
        const FIRST: [(&str, &str); 4] = [("gb", "GB"), ("ch", "CH"), ("se", "SE"), ("no", "NO")];
        const OTHERS: [&str; 6] = ["IT", "PL", "NL", "BE", "DE", "FR"];
        const COUNTRIES: [&str; 6] = ["POLA", "NETH", "SWED", "AUSL", "ARGE", "NORW"];
        let site = |at: usize| {
            let other = || {
                let country = OTHERS.get(at % OTHERS.len()).copied().unwrap_or("IT");
                (format!("{}-{at}", country.to_lowercase()), country)
            };
            let (id, jurisdiction) = FIRST.get(at).map_or_else(other, |(id, j)| ((*id).to_string(), *j));
            let country = COUNTRIES.get(at % COUNTRIES.len()).copied().unwrap_or("POLA");
            let rows = (id != "ch" && id != "no").then(|| rows_of(country, ROWS));
            Site { id, jurisdiction: jurisdiction.to_string(), rows }
        };
        let sites: Vec<Site> = (0..members.max(3)).map(site).collect();
        let holders = sites.iter().filter(|s| s.rows.is_some()).count();
        let quorum = u32::try_from(holders).unwrap_or(u32::MAX);
        Setup { sites, pool: ["ch", "se"].map(String::from).to_vec(), quorum }
    }

    fn head(&self, hub: &record::HubInfo) -> String {
        let pool: Vec<String> = self.pool.iter().map(|p| format!("\"{p}\"")).collect();
        format!(
            "federation = \"world\"\ntitle = \"A simulated world\"\nsunset = \"2031-12-31\"\nfloor = \"{}\"\n\
             purposes = [\"stroke-research\"]\naggregator_pool = [{}]\n\n[hub]\noperator = \"{}\"\n\
             jurisdiction = \"{}\"\nkey = \"{}\"\ntls = \"{}\"\n\n[data_access]\nquorum = {}\ndeadline_hours = 72\n\
             valid_days = 90\n\n[limits]\nlease_hours = 24\nwatermark_minutes = 10\nmin_hidden_sites = 3\n\n",
            record::Digest::of(policy::FLOOR.as_bytes()),
            pool.join(", "),
            hub.operator,
            hub.jurisdiction,
            hub.key,
            hub.tls,
            self.quorum,
        )
    }
}

/// The first rows of a country of the generated trial, with the header.
pub fn rows_of(country: &str, rows: usize) -> String {
    let table = engine::generate::ist(&[country], 1991);
    let mut text: String = table.lines().take(rows + 1).collect::<Vec<_>>().join("\n");
    text.push('\n');
    text
}

/// A founded federation, at rest; each day starts from a copy.
pub struct Federation {
    dir: TempDir,
    ids: Vec<String>,
    charter: Charter,
    kept: Mutex<(Vec<Store>, Books)>,
    t: i64,
    /// All rows of it.
    pub truth: Truth,
    /// Who holds rows.
    pub holders: Vec<usize>,
}

impl Federation {
    /// The eight; founded once for a process.
    pub fn eight() -> Result<&'static Federation, WorldError> {
        static EIGHT: OnceLock<Result<Federation, WorldError>> = OnceLock::new();
        EIGHT
            .get_or_init(|| {
                // Eight members check each signature in one process; once is enough for the days.
                record::keys::verify_once();
                Federation::found(&Setup::eight())
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Founds a federation: every member signs, adopts and confirms its schedule and registers its rows.
    pub fn found(setup: &Setup) -> Result<Federation, WorldError> {
        let dir = TempDir::new().failed("no temporary folder")?;
        let mut world = World::newborn(setup, &dir)?;
        world.rest("the agreement")?;
        let library = policy::Library::embedded().failed("the library")?;
        for (m, site) in setup.sites.iter().enumerate() {
            let regime = library.regime(&site.jurisdiction).unwrap_or_default();
            let text = policy::schedule(regime)
                .ok_or_else(|| WorldError(format!("no schedule for `{}`", site.jurisdiction)))?;
            world.must(m, Command::PolicyAdopt { file: "schedule.toml".into(), text: text.to_string() })?;
        }
        let mut sites = Vec::new();
        let mut holders = Vec::new();
        let dictionary = Dictionary::parse("dictionary.toml", DICTIONARY).failed("the dictionary")?;
        for (m, site) in setup.sites.iter().enumerate() {
            let Some(rows) = &site.rows else { continue };
            let data = dir.path().join(&site.id).join("data");
            std::fs::create_dir_all(&data).failed("a folder of data")?;
            for (name, text) in
                [("ist.csv", rows.as_str()), ("mapping.toml", MAPPING), ("dictionary.toml", DICTIONARY)]
            {
                std::fs::write(data.join(name), text).failed("a file of data")?;
            }
            let file = data.join("dataset.toml").display().to_string();
            world.must(m, Command::DatasetAdd { file, text: DATASET.into() })?;
            if holders.is_empty() {
                // One owner registers the dictionary, the others find it.
                world.rest("the dictionary")?;
            }
            holders.push(m);
            let mapping = Mapping::parse_with("mapping.toml", MAPPING, &dictionary).failed("the mapping")?;
            let read = engine::Governed::open(&data.join("ist.csv"), &mapping, &dictionary);
            sites.push(read.failed("the rows")?.into_frame());
        }
        world.rest("the datasets")?;
        for (m, site) in setup.sites.iter().enumerate() {
            world.must(m, Command::PolicyConfirm { seat: format!("{}-counsel", site.id) })?;
        }
        world.rest("the confirmations")?;
        world.into_federation(dir, Truth::new(sites, dictionary), holders)
    }

    /// Ids of the members, in their order.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// A world that begins here.
    pub fn begin(&self, seed: u64) -> Result<World, WorldError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut members = Vec::new();
        for (id, store) in self.ids.iter().zip(&kept.0) {
            let store = store.copy().failed("a copy of a store")?;
            members.push(member(self.dir.path().join(id), self.charter.clone(), store)?);
        }
        let books = kept.1.copy().failed("a copy of the hub's store")?;
        drop(kept);
        let at = At { now: crate::world::EPOCH + self.t, up: Duration::from_millis(self.t.unsigned_abs()) };
        let desk = books.wake(at).failed("the hub")?;
        Ok(World::new(seed, self.t, members, HubProcess::new(desk), self.ids.clone()))
    }

    /// Copies of what the members had kept when the federation was founded.
    pub(crate) fn first_stores(&self) -> Result<Vec<Store>, WorldError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0.iter().map(|store| store.copy().failed("a copy of a store")).collect()
    }
}

fn member(dir: PathBuf, charter: Charter, store: Store) -> Result<Member, WorldError> {
    let config = Config::read(&dir).failed("a node's configuration")?;
    let keys = node::keys::NodeKeys::open(&dir.join("node.key")).failed("a node's keys")?;
    let (.., tls) = keys.public().failed("a node's keys")?;
    let id = config.id.clone();
    let mut node = Node::wake(Parts { dir, config, keys, charter, store }).failed("a node")?;
    node.reread_mail(crate::world::EPOCH).failed("a node's mail")?;
    node.flush().failed("a node's store")?;
    Ok(Member::new(id, tls, node))
}

impl World {
    /// Members with keys and charter, none of whom has said anything yet.
    fn newborn(setup: &Setup, dir: &TempDir) -> Result<World, WorldError> {
        let config = HubConfig {
            federation: "world".into(),
            operator: "Relay (fictitious)".into(),
            jurisdiction: "NL".into(),
        };
        let books = Books::in_memory(&config, [7; 32], [8; 32]).failed("the hub's books")?;
        let at = At { now: crate::world::EPOCH, up: Duration::ZERO };
        let desk = books.wake(at).failed("the hub")?;
        let mut text = setup.head(&desk.info());
        for site in &setup.sites {
            let config = Config {
                id: site.id.clone(),
                name: format!("Member {} (fictitious)", site.id),
                jurisdiction: site.jurisdiction.clone(),
                control: format!("{}, own premises", site.id),
                hub: Some("simulated:0".into()),
                peer_listen: None,
                proxy: None,
            };
            let folder = dir.path().join(&site.id);
            text.push_str(&node::config::init(&folder, &config).failed("a node's folder")?);
            text.push('\n');
        }
        let charter = Charter::parse("charter.toml", &text).failed("the charter")?;
        let mut members = Vec::new();
        for site in &setup.sites {
            let store = Store::in_memory().failed("a store")?;
            members.push(member(dir.path().join(&site.id), charter.clone(), store)?);
        }
        let names = setup.sites.iter().map(|s| s.id.clone()).collect();
        Ok(World::new(0, 0, members, HubProcess::new(desk), names))
    }

    /// Gives a command that is to be answered with yes.
    pub fn must(&mut self, m: usize, command: Command) -> Result<Vec<String>, WorldError> {
        let id = self.members[m].id.clone();
        match self.act(m, |node, now| Ok(node.handle(command, now))) {
            Some(Ok(reply)) if reply.exit == 0 => Ok(reply.statements),
            Some(Ok(reply)) => Err(WorldError(format!("{id}: {}", reply.text))),
            Some(Err(e)) => Err(WorldError(format!("{id}: {e}"))),
            None => Err(WorldError(format!("{id} is down"))),
        }
    }

    /// Runs until nobody has anything to say.
    pub fn rest(&mut self, what: &str) -> Result<(), WorldError> {
        let mut before = 0;
        for _ in 0..600 {
            self.run_for(2 * crate::world::TICK);
            if let Some(broken) = &self.watch.broken {
                return Err(WorldError(format!("{what}: {broken:?}")));
            }
            let size = self.hub.desk.as_ref().map_or(0, hub::Desk::size);
            if size == before && self.is_level(size) {
                return Ok(());
            }
            before = size;
        }
        Err(WorldError(format!("{what} does not come to rest")))
    }

    fn into_federation(
        mut self,
        dir: TempDir,
        truth: Truth,
        holders: Vec<usize>,
    ) -> Result<Federation, WorldError> {
        let ids = self.members.iter().map(|m| m.id.clone()).collect();
        let mut stores = Vec::new();
        let mut charter = None;
        for member in &mut self.members {
            let node = member.node.take().ok_or_else(|| WorldError("a node is down".into()))?;
            node.flush().failed("a node's store")?;
            let parts = node.fall().failed("a node's store")?;
            stores.push(parts.store);
            charter = Some(parts.charter);
        }
        let desk = self.hub.desk.take().ok_or_else(|| WorldError("the hub is down".into()))?;
        self.counts = Counts::default();
        Ok(Federation {
            dir,
            ids,
            charter: charter.ok_or_else(|| WorldError("nobody is here".into()))?,
            kept: Mutex::new((stores, desk.fall())),
            t: self.t,
            truth,
            holders,
        })
    }
}
