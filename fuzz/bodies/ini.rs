//! An INI fleet is refused with every problem at its line, or is a fleet.

use decnet_lifecycle::{
    FleetConfig, Timestamp,
    fleet::{FleetError, HostNetwork, IniSettings},
};

pub fn ini(data: &[u8]) {
    let mut settings =
        IniSettings::new(Timestamp::from_micros(1), u64::from(data.first().copied().unwrap_or(0)));
    if data.len().is_multiple_of(2) {
        let net = ("10.1.0.0/24".parse(), "10.1.0.1".parse());
        if let (Ok(subnet), Ok(gateway)) = net {
            settings.host = Some(HostNetwork { interface: "eth0".into(), subnet, gateway });
        }
    }
    let lines = 1 + data.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    let read = FleetConfig::from_ini(data, &settings);
    match &read {
        Ok(read) => {
            let fleet = &read.fleet;
            assert_eq!(FleetConfig::from_json(fleet.to_json().as_bytes()).unwrap(), *fleet);
            for decky in &fleet.deckies {
                assert!(fleet.subnet.contains(&decky.ip) && decky.ip != fleet.gateway);
            }
        }
        Err(FleetError::Invalid(problems)) => {
            assert!(!problems.list().is_empty() && problems.list().len() <= 1_001);
            for problem in problems.list() {
                let told = problem.to_string();
                assert!(!told.chars().any(char::is_control), "{told:?}");
                let line = problem.path.strip_prefix("line ");
                let line = line.map(|rest| rest.split(',').next().unwrap_or_default());
                let line = line.map(|line| line.parse::<usize>().unwrap());
                assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "{told}");
            }
        }
        Err(_) => {}
    }
    // Which ends of lines a file has makes no difference.
    if !data.contains(&b'\r') {
        let mut other = Vec::new();
        for byte in data {
            if *byte == b'\n' {
                other.push(b'\r');
            }
            other.push(*byte);
        }
        let again = FleetConfig::from_ini(&other, &settings);
        assert_eq!(format!("{read:?}"), format!("{again:?}"));
    }
}
