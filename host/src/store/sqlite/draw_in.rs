//! The machine's clock was set back: times of the future that it gave are drawn
//! in.

use rusqlite::params;

use super::fault::Fault;
use super::sql;
use super::writing::{Command, Writing};
use crate::domain::clock::TOLERANCE;
use crate::domain::task::Priority;
use crate::domain::time::Timestamp;
use crate::store::asks::Squeezed;
use crate::store::{At, DrawnIn};

/// [`Store::draw_in`](crate::store::Store::draw_in).
pub(super) struct DrawIn {
    pub(super) limit: u32,
    pub(super) at: At,
}

impl Command for DrawIn {
    type Answer = DrawnIn;

    fn rows(&self) -> usize {
        self.limit as usize * 4
    }

    fn apply(&self, writing: &mut Writing<'_>) -> Result<DrawnIn, Fault> {
        let time = writing.now(self.at);
        let (now, edge) = (sql::millis(time), sql::millis(time.after(TOLERANCE)));
        let mut future = Future { writing, time, now, edge, limit: i64::from(self.limit), drawn: DrawnIn::default() };
        future.schedules()?;
        future.tasks()?;
        future.successors()?;
        future.effects()?;
        future.records()?;
        Ok(future.drawn)
    }
}

/// What lies beyond `edge`, and is drawn in to `now`.
struct Future<'w, 'c> {
    writing: &'w Writing<'c>,
    time: Timestamp,
    now: i64,
    edge: i64,
    limit: i64,
    drawn: DrawnIn,
}

impl Future<'_, '_> {
    fn schedules(&mut self) -> Result<(), Fault> {
        let latest = self.writing.statement("SELECT max(scheduled) FROM jobs")?.query_row([], |row| row.get(0))?;
        self.drawn.saw(latest, self.time);
        let mut update = self.writing.statement("UPDATE jobs SET scheduled = ?1 WHERE scheduled > ?2")?;
        self.drawn.schedules += update.execute([self.now, self.edge])? as u64;
        Ok(())
    }

    /// A due time that lies in the future because its wait does: it is behind
    /// the edge in the index.
    fn tasks(&mut self) -> Result<(), Fault> {
        let mut select = self.writing.statement(
            "SELECT id, waits_from FROM tasks INDEXED BY due
             WHERE job = ?1 AND priority = ?2 AND run_at > ?3 AND waits_from > ?3 LIMIT ?4",
        )?;
        let mut found: Vec<(i64, i64)> = Vec::new();
        for job in self.jobs()? {
            for priority in Priority::ALL {
                let left = self.limit - i64::try_from(found.len()).unwrap_or(i64::MAX);
                let range = params![job, sql::priority(priority), self.edge, left];
                let rows = select.query_map(range, |row| Ok((row.get(0)?, row.get(1)?)))?;
                for row in rows {
                    found.push(row?);
                }
            }
        }
        self.wait_from_now(
            &found,
            "UPDATE tasks
             SET run_at = run_at - (waits_from - ?2), waits_from = ?2, enqueued_at = min(enqueued_at, ?2),
                 postponed_since = min(postponed_since, ?2)
             WHERE id = ?1",
        )
    }

    /// Asked for while their tasks ran: found by what nodes hold.
    fn successors(&mut self) -> Result<(), Fault> {
        let mut select = self.writing.statement(
            "SELECT tasks.id, next_waits_from
             FROM batches CROSS JOIN json_each(batches.ids) CROSS JOIN tasks ON tasks.id = value
             WHERE tasks.state = 1 AND next_waits_from > ?1 LIMIT ?2",
        )?;
        let rows = select.query_map([self.edge, self.limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let found: Vec<(i64, i64)> = rows.collect::<Result<_, _>>()?;
        self.wait_from_now(
            &found,
            "UPDATE tasks
             SET next_run_at = next_run_at - (next_waits_from - ?2), next_waits_from = ?2,
                 next_enqueued_at = min(next_enqueued_at, ?2)
             WHERE id = ?1",
        )
    }

    fn wait_from_now(&mut self, found: &[(i64, i64)], update: &str) -> Result<(), Fault> {
        let mut update = self.writing.statement(update)?;
        for (id, from) in found {
            self.drawn.saw(Some(*from), self.time);
            self.drawn.tasks += update.execute([*id, self.now])? as u64;
        }
        self.drawn.more |= found.len() as u64 >= self.limit.unsigned_abs();
        Ok(())
    }

    /// They keep their order: see [`Squeezed`].
    fn effects(&mut self) -> Result<(), Fault> {
        let Squeezed { edge, to } = Squeezed::at(self.time);
        let mut latest =
            self.writing.statement("SELECT max(at) FROM effects INDEXED BY effects_listed WHERE job = ?1")?;
        let mut happened = self.writing.statement(
            "UPDATE effects SET at = ?1 + (at - ?2) * ?3 / (?4 - ?2)
             WHERE (journal, number) IN (
                 SELECT journal, number FROM effects INDEXED BY effects_listed
                 WHERE job = ?5 AND at > ?2 ORDER BY at, journal, number LIMIT ?6)",
        )?;
        let mut kept = self.writing.statement(
            "UPDATE effects SET fate_at = ?1
             WHERE (journal, number) IN (
                 SELECT journal, number FROM effects INDEXED BY effects_trash
                 WHERE job = ?2 AND fate = 0 AND fate_at > ?3 LIMIT ?4)",
        )?;
        for job in self.jobs()? {
            let last: Option<i64> = latest.query_row([job], |row| row.get(0))?;
            self.drawn.saw(last, self.time);
            let mut changed = kept.execute([self.now, job, self.edge, self.limit])?;
            if let Some(last) = last.filter(|last| *last > edge) {
                changed = changed.max(happened.execute([to, edge, Squeezed::ROOM, last, job, self.limit])?);
            }
            self.count(changed, |drawn| &mut drawn.effects);
        }
        Ok(())
    }

    fn records(&mut self) -> Result<(), Fault> {
        let writing = self.writing;
        let latest = writing.statement("SELECT max(finished_at) FROM history")?.query_row([], |row| row.get(0))?;
        self.drawn.saw(latest, self.time);
        let ended = writing
            .statement(
                "UPDATE history
                 SET finished_at = ?1, ended_at = min(ended_at, ?1), started_at = min(started_at, ?1),
                     enqueued_at = min(enqueued_at, ?1)
                 WHERE id IN (SELECT id FROM history INDEXED BY history_finished WHERE finished_at > ?2 LIMIT ?3)",
            )?
            .execute([self.now, self.edge, self.limit])?;
        self.count(ended, |drawn| &mut drawn.records);
        let latest = writing.statement("SELECT max(at) FROM requests")?.query_row([], |row| row.get(0))?;
        self.drawn.saw(latest, self.time);
        let asked = writing
            .statement(
                "UPDATE requests SET at = ?1
                 WHERE (job, key) IN (SELECT job, key FROM requests INDEXED BY requests_at WHERE at > ?2 LIMIT ?3)",
            )?
            .execute([self.now, self.edge, self.limit])?;
        self.count(asked, |drawn| &mut drawn.records);
        for few in [
            "UPDATE nodes SET started_at = min(started_at, ?1), ended_at = min(ended_at, ?1)
             WHERE started_at > ?2 OR ended_at > ?2",
            "UPDATE batches SET claimed_at = ?1 WHERE claimed_at > ?2",
            "UPDATE holds SET since = ?1 WHERE since > ?2",
        ] {
            self.drawn.records += writing.statement(few)?.execute([self.now, self.edge])? as u64;
        }
        Ok(())
    }

    fn count(&mut self, changed: usize, kind: impl FnOnce(&mut DrawnIn) -> &mut u64) {
        *kind(&mut self.drawn) += changed as u64;
        self.drawn.more |= changed as u64 >= self.limit.unsigned_abs();
    }

    fn jobs(&self) -> Result<Vec<i64>, Fault> {
        let mut select = self.writing.statement("SELECT id FROM jobs")?;
        let jobs = select.query_map([], |row| row.get(0))?;
        Ok(jobs.collect::<Result<_, _>>()?)
    }
}
