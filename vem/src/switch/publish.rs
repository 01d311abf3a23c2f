//! A plan comes to run: dataplane first, then what its flows were counted under, then the flow export.
//!
//! Nothing that a flow monitor has counted is lost or told to another when it goes, is changed, or leaves a port:
//!
//! 1. The exporter is told which monitors come, so that it keeps their first records.
//! 2. The dataplane takes the snapshot over: no frame is counted as before any more.
//! 3. The workers report every flow that was counted under other monitors than it has now.
//! 4. The exporter sends what is in the rings as the old configuration says, and only then takes the new one.
//!
//! A monitor's number is not given to another before all of this is done. When every number is taken, or may still be
//! named, the monitors that stay run alone for a moment, which frees the others.

use std::time::Instant;

use proto::config::HostConfig;
use vswitch::snapshot::Snapshot;

use super::{Error, Switch};
use crate::apply;
use crate::export;

impl Switch {
    /// Makes a plan of what is attached and of the configuration, and has the dataplane and the exporter run on it.
    pub(super) fn publish(&mut self, now: Instant) -> Result<(), Error> {
        let host = self.host.take();
        let outcome = self.run(host.as_ref());
        self.host = host;
        outcome?;
        if self.raise_mtus() && self.device_mtus_changed() {
            // Once more with what the devices take now; there is nothing left to raise then.
            return self.publish(now);
        }
        self.compare_states(now);
        Ok(())
    }

    fn run(&mut self, host: Option<&HostConfig>) -> Result<(), Error> {
        if let Some(host) = host
            && !self.plan.numbers.monitors.has_room(host)
        {
            let mut staying = host.clone();
            staying.monitors.retain(|monitor| self.plan.numbers.monitors.knows(monitor, host));
            self.run_plan(Some(&staying))?;
        }
        self.run_plan(host)
    }

    fn run_plan(&mut self, host: Option<&HostConfig>) -> Result<(), Error> {
        let generation = self.generation + 1;
        let plan = apply::plan(generation, host, &self.attached(), &self.plan.numbers)?;
        let before = self.control.running();
        let snapshot = Snapshot::build_after(&plan.config, &before)?;
        let empty = HostConfig::default();
        let export = self.export_config(host.unwrap_or(&empty), &plan);
        export::plan::check(&export)?;
        // Their numbers were free: nothing counts under them before the new rules do.
        plan.fresh_rules.iter().for_each(|id| self.control.clear_rule(*id));
        // Even if this fails, frames may be counted as it says.
        self.plan.numbers.monitors.withhold(&plan.numbers.monitors);
        self.unsettled |= !before.monitors.is_empty() && !snapshot.watches_as(&before);
        self.exporter.expect(plan.numbers.monitors.given());
        self.control.publish(snapshot)?;
        self.generation = generation;
        self.plan = plan;
        self.settle(export)
    }

    /// Has the flows of monitors that are gone reported, and the exporter take its configuration after them.
    fn settle(&mut self, export: export::Config) -> Result<(), Error> {
        if self.unsettled {
            match self.control.settle_flows() {
                Ok(()) => self.unsettled = false,
                Err(error) => tracing::warn!(%error, "flows of the configuration before are not all reported"),
            }
        }
        match self.exporter.configure(export) {
            Ok(()) if !self.unsettled => self.plan.numbers.monitors.release(),
            Ok(()) => {}
            // It takes it when it can, unless the next comes first.
            Err(error @ export::Error::Late) => tracing::warn!(%error),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
