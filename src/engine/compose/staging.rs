//! Files that lie once beside the templates, and that build folders get
//! before a build: an image is built of what is in its folder alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use crate::fleet::FleetConfig;
use crate::lifecycle::{DeckyName, Failure};

use super::document::ComposeFile;
use super::failed;

/// What every service's folder gets, by its place below the templates.
const ALL: [(&str, &str); 2] =
    [("syslog_bridge.py", "syslog_bridge.py"), ("instance_seed.py", "instance_seed.py")];

/// What some get beside it.
const SOME: [(&[&str], &str, &str); 5] = [
    (&["ssh", "telnet"], "_shared/auth-helper/auth-helper.c", "auth-helper/auth-helper.c"),
    (&["ssh", "telnet"], "_shared/sessrec/sessrec.c", "sessrec/sessrec.c"),
    (&["ssh", "telnet"], "_shared/sessrec/Makefile", "sessrec/Makefile"),
    (&["smb", "rdp"], "_shared/ntlmssp.py", "ntlmssp.py"),
    (&["http", "https"], "_caddy_modules", "_caddy_modules"),
];

/// The folder of the cloaked bases, and what the original puts into it from
/// its own installation.
const CLOAK: (&str, &str) = ("_shared/cloak", "decnet");

/// How deep a copied folder may be.
const DEPTH: usize = 8;

/// Brings the build folders of these deckies up to date. Deckies whose folders
/// can't be are taken out of the file.
pub(super) fn stage(
    templates: &Path,
    file: &mut ComposeFile,
    fleet: &FleetConfig,
) -> Vec<(DeckyName, Failure)> {
    let mut done: BTreeMap<String, Option<Failure>> = BTreeMap::new();
    let mut refused = Vec::new();
    for decky in fleet.names() {
        let contexts: BTreeSet<String> = file.build_contexts(decky).map(str::to_owned).collect();
        let why = contexts.into_iter().find_map(|context| {
            let folder = Path::new(&context).strip_prefix(templates).ok()?.to_str()?.to_owned();
            done.entry(folder).or_insert_with_key(|folder| folder_ready(templates, folder).err()).clone()
        });
        if let Some(why) = why {
            file.remove(decky);
            refused.push((decky.clone(), why));
        }
    }
    refused
}

fn folder_ready(templates: &Path, folder: &str) -> Result<(), Failure> {
    let target = templates.join(folder);
    let (cloak, package) = CLOAK;
    if folder == cloak {
        if target.join(package).is_dir() {
            return Ok(());
        }
        let text = format!(
            "the template {} lacks the folder {package}; the original puts its package there when it deploys",
            target.display()
        );
        return Err(failed(&text));
    }
    let some = SOME.into_iter().filter(|(folders, _, _)| folders.contains(&folder));
    for (from, to) in ALL.into_iter().chain(some.map(|(_, from, to)| (from, to))) {
        let (from, to) = (templates.join(from), target.join(to));
        copy(&from, &to, DEPTH).map_err(|error| {
            let text = format!(
                "{} can't be brought to {}: {error}; check the permissions of the templates, or copy it there",
                from.display(),
                to.display()
            );
            failed(&text)
        })?;
    }
    Ok(())
}

/// Copies a file or folder where it differs; what isn't there isn't copied.
fn copy(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    let Ok(kind) = fs::metadata(from) else { return Ok(()) };
    if !kind.is_dir() {
        return copy_file(from, to);
    }
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(io::Error::other("too many folders in folders"));
    };
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()), deeper)?;
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let bytes = fs::read(from)?;
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let dir = to.parent().ok_or_else(|| io::Error::other("the path has no folder"))?;
    fs::create_dir_all(dir)?;
    let new = tempfile::NamedTempFile::new_in(dir)?;
    fs::write(new.path(), &bytes)?;
    // Who builds the image may be another user.
    fs::set_permissions(new.path(), fs::metadata(from)?.permissions())?;
    new.persist(to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::{Value, json};

    use super::*;
    use crate::engine::compose::{ComposeEngine, ComposeSettings};

    const FACTS: &str = include_str!("../../../tests/original/catalogue-facts.json");

    /// One decky a service, one on a cloaked base, and their file.
    fn composed(templates: &Path) -> (FleetConfig, ComposeFile) {
        let facts: Value = serde_json::from_str(FACTS).unwrap();
        let services = facts["services"].as_object().unwrap().keys().filter(|name| *name != "sniffer");
        let mut deckies: Vec<Value> = (2..)
            .zip(services)
            .map(|(number, service)| {
                json!({"name": format!("of-{service}"), "ip": format!("10.0.0.{number}"), "services": [service],
                       "distro": "debian", "base_image": "x", "hostname": "h"})
            })
            .collect();
        deckies.push(json!({"name": "cloaked", "ip": "10.0.0.99", "services": ["ftp"], "distro": "debian",
                            "base_image": "x", "hostname": "h", "nmap_os": "windows"}));
        let fleet = json!({"mode": "unihost", "interface": "e", "subnet": "10.0.0.0/24", "gateway": "10.0.0.1",
                           "deckies": deckies});
        let fleet = FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap();
        let settings = ComposeSettings { templates: templates.to_owned(), ..ComposeSettings::default() };
        let file = ComposeEngine::new("/x").settings(settings).compose(&fleet).unwrap();
        (fleet, file)
    }

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn build_folders_get_what_the_original_copies_into_them() {
        let dir = tempfile::tempdir().unwrap();
        let templates = dir.path();
        let module = "_caddy_modules/decnetfp/module.go";
        let shared = ["syslog_bridge.py", "instance_seed.py", module].map(str::to_owned);
        let beside = ["auth-helper/auth-helper.c", "sessrec/sessrec.c", "sessrec/Makefile", "ntlmssp.py"];
        for from in shared.into_iter().chain(beside.map(|name| format!("_shared/{name}"))) {
            write(&templates.join(&from), &from);
        }
        fs::set_permissions(templates.join("syslog_bridge.py"), fs::Permissions::from_mode(0o755)).unwrap();
        write(&templates.join("ftp/syslog_bridge.py"), "an old one");
        write(&templates.join("_shared/cloak/decnet/__init__.py"), "");
        let (fleet, mut file) = composed(templates);
        assert_eq!(stage(templates, &mut file, &fleet), []);
        let facts: Value = serde_json::from_str(FACTS).unwrap();
        let copied = facts["copied_into_build_dirs_before_build"].as_object().unwrap();
        let mut compared = 0;
        for (folders, names) in copied.iter().filter(|(folders, _)| *folders != "_shared/cloak") {
            let all = facts["services"].as_object().unwrap().values();
            let folders: BTreeSet<&str> = match folders.as_str() {
                "every service with a build dir" => {
                    all.filter_map(|fact| fact["build_dir_below_templates"].as_str()).collect()
                }
                some => some.split(", ").collect(),
            };
            for folder in folders.into_iter().filter(|folder| *folder != "sniffer") {
                for name in names.as_array().unwrap().iter().filter_map(Value::as_str) {
                    let name = if name == "_caddy_modules/" { module } else { name };
                    let text = fs::read_to_string(templates.join(folder).join(name)).unwrap();
                    assert!(text.ends_with(name), "{folder}: {text}");
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, 27 * 2 + 2 * 3 + 2 + 2);
        let mode = fs::metadata(templates.join("ftp/syslog_bridge.py")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[test]
    fn a_folder_that_can_not_be_brought_up_to_date_fails_its_own_deckies() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("syslog_bridge.py"), "x");
        // A file where a folder should be.
        write(&dir.path().join("ssh"), "x");
        let (fleet, mut file) = composed(dir.path());
        let refused = stage(dir.path(), &mut file, &fleet);
        let names: Vec<&str> = refused.iter().map(|(decky, _)| decky.as_str()).collect();
        assert_eq!(names, ["of-ssh", "cloaked"]);
        let told = refused[0].1.message();
        assert!(told.contains("ssh/syslog_bridge.py: ") && told.contains("check the permissions"), "{told}");
        assert!(refused[1].1.message().contains("_shared/cloak lacks the folder decnet"));
        assert_eq!(file.containers(&refused[0].0).count(), 0);
        assert_eq!(file.containers(&fleet.deckies[0].name).count(), 2);
    }
}
