//! The page of the switch in a real browser: who talks to whom inside a host, within ten seconds of logging in.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::{Report, on_host};
use crate::browser::Browser;
use crate::error::{Error, Result, Tried, expect};
use crate::lab::Lab;
use crate::lab::config::SSH_USER;
use crate::traffic;

/// What a newcomer may need until he sees it.
const NEWCOMER: Duration = Duration::from_secs(10);
/// TCP port of the traffic.
const PORT: u16 = 5212;

/// One visit.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let lab = &*lab;
    let vms = on_host(lab, &lab.plan.hosts[0].name);
    let (Some(from), Some(to)) = (vms.first(), vms.get(1)) else {
        return Err(Error::State("the first host has no two VMs".to_owned()));
    };
    let password = fs::read_to_string(lab.plan.admin_password_file()).tried("the administrator's password")?;
    let told = fs::read_to_string(lab.plan.address_file("nxapi")).tried("the address of the switch's page")?;
    let port = told.trim().rsplit_once(':').map_or("", |(_, port)| port).to_owned();
    let host = &lab.plan.hosts[0].name;
    let browser = Browser::start(1400, 1500)?;
    browser.open(&format!("https://127.0.0.1:{port}/"))?;
    report.check("page lets nobody in with a wrong password, and shows nothing before", || {
        log_in(&browser, "not the password")?;
        browser.wait_for("#refused", |text| text.contains("wrong"))?;
        let shown = browser.text("#page")?;
        expect(shown.is_empty(), || format!("it shows {shown}"))
    });
    thread::scope(|scope| {
        let talking = scope.spawn(|| traffic::iperf_for(from, to, PORT, 12));
        thread::sleep(Duration::from_secs(2));
        report.check("page tells who talks to whom inside a host within ten seconds", || {
            let start = Instant::now();
            log_in(&browser, password.trim())?;
            let pair = format!("{} ↔ {}", from.name, to.name);
            let row = browser.wait_for("#conversations", |text| text.contains(&pair))?;
            let took = start.elapsed();
            let line = row.lines().skip_while(|line| !line.contains(&pair)).take(6).collect::<Vec<_>>().join(" ");
            expect(line.contains(&format!("stays inside {host}")), || format!("of {pair}: {line}"))?;
            expect(line.contains("TCP") && line.contains("bit/s"), || format!("of {pair}: {line}"))?;
            expect(took < NEWCOMER, || format!("it took {took:?}"))
        });
        report.check("page draws the hosts and tells mirror and export", || {
            browser.wait_for("#headline", |text| text.contains("inside a host"))?;
            let drawn = browser.wait_for("#hosts", |text| text.contains(from.name.as_str()))?;
            let all = lab.plan.hosts.iter().all(|host| drawn.contains(&host.name));
            expect(all, || format!("hosts drawn: {drawn}"))?;
            let health = browser.text("#health")?;
            let modules = format!("{0} of {0} modules up", lab.plan.hosts.len());
            expect(health.contains(&modules) && health.contains("export up"), || health.clone())?;
            let picture = lab.plan.dir.join("page.png");
            browser.screenshot(&picture)?;
            let errors: Vec<String> = browser.errors()?.into_iter().filter(|e| !e.contains("401")).collect();
            expect(errors.is_empty(), || format!("the browser complains: {errors:?}"))
        });
        talking.join().map_err(|_| Error::State("the traffic panicked".to_owned()))?.map(drop)
    })
}

fn log_in(browser: &Browser, password: &str) -> Result<()> {
    browser.type_into("#login [name=user]", SSH_USER)?;
    browser.type_into("#login [name=password]", password)?;
    browser.press("#login button")
}
