//! A host that is made up: it knows one job and remembers what it was asked.

use super::*;

/// A host that knows one job, `videos`, and remembers what it was given.
#[derive(Clone, Default)]
pub(super) struct Fake(pub(super) Arc<Inner>);

#[derive(Default)]
pub(super) struct Inner {
    pub(super) queued: Mutex<Vec<NewTask>>,
    pub(super) paused: Mutex<Option<String>>,
    pub(super) not_ready: Mutex<Option<NotReady>>,
    pub(super) next: AtomicU64,
    /// How many tasks came at a time.
    pub(super) chunks: Mutex<Vec<usize>>,
    pub(super) requests: Mutex<Vec<(RequestKey, Vec<Enqueued>)>>,
    pub(super) interventions: Mutex<Vec<Intervene>>,
    pub(super) filters: Mutex<Vec<ByFilter>>,
    pub(super) steered: Mutex<Vec<Steer>>,
    pub(super) effects: Mutex<Vec<EffectQuery>>,
    pub(super) holds: Mutex<Vec<Hold>>,
    pub(super) taken: Mutex<Vec<TrashAsk>>,
}

impl Fake {
    fn known(job: &str) -> Result<(), HostError> {
        let unknown = || HostError::UnknownJob { name: job.to_owned(), nearest: Some("videos".to_owned()) };
        JobName::new(job).ok().filter(|name| name.as_str() == "videos").map(drop).ok_or_else(unknown)
    }

    fn view(id: u64, payload: Option<&str>) -> TaskView {
        TaskView {
            id: TaskId(id),
            job: "videos".to_owned(),
            key: format!("k{id}"),
            payload: payload.map(str::to_owned),
            state: TaskState::Pending,
            priority: Priority::Normal,
            enqueued_at: Timestamp(1),
            run_at: Timestamp(1),
            attempts: 0,
            losses: 0,
            note: None,
            outcome: None,
            digest: None,
            finished_at: None,
            node: None,
            successor: false,
        }
    }
}

impl HostApi for Fake {
    async fn enqueue(&self, job: &str, tasks: Vec<NewTask>) -> Result<Vec<Enqueued>, HostError> {
        Self::known(job)?;
        let Some(first) = tasks.first() else { return Ok(Vec::new()) };
        self.0.chunks.lock().await.push(tasks.len());
        match first.key.as_str() {
            "unavailable" => return Err(StoreError::Unavailable("/secret/path".to_owned()).into()),
            "full" => return Err(StoreError::Full("/secret/path".to_owned()).into()),
            "unknown" => return Err(StoreError::Unknown("INSERT INTO secret".to_owned()).into()),
            "rejected" => return Err(StoreError::Rejected("INSERT INTO secret".to_owned()).into()),
            "stopping" => return Err(HostError::Stopping),
            "panic" => panic!("a made-up panic"),
            "slow" => tokio::time::sleep(Duration::from_hours(1)).await,
            _ => {}
        }
        let mut queued = self.0.queued.lock().await;
        let answer = |task: &NewTask| {
            if task.key.as_str() == "running" {
                return Enqueued::Successor(TaskId(7));
            }
            let known = queued.iter().position(|known| known.key == task.key);
            let id = TaskId(known.map_or_else(|| self.0.next.fetch_add(1, Ordering::SeqCst) + 1, |at| at as u64 + 1));
            if known.is_some() { Enqueued::Pending(id) } else { Enqueued::New(id) }
        };
        let answers = tasks.iter().map(answer).collect();
        queued.extend(tasks);
        Ok(answers)
    }

    async fn enqueue_once(&self, job: &str, request: RequestKey, tasks: Vec<NewTask>) -> Result<Once, HostError> {
        let known = self.0.requests.lock().await.iter().find(|(known, _)| known.key == request.key).cloned();
        if let Some((known, answers)) = known {
            return Ok(if known == request { Once::Repeated(answers) } else { Once::Mismatch });
        }
        let answers = self.enqueue(job, tasks).await?;
        self.0.requests.lock().await.push((request, answers.clone()));
        Ok(Once::Queued(answers))
    }

    async fn status(&self) -> Result<HostStatus, HostError> {
        let wall = WallStatus { landlock: WallPolicy::Off, enforced: Enforced::Not, why: None };
        Ok(HostStatus {
            version: "0",
            node: "n".to_owned(),
            started_at: Timestamp(5),
            up_ms: 7,
            wall,
            clock: None,
            no_room: None,
            nodes: Vec::new(),
            parts: Vec::new(),
            log: crate::domain::status::LogStatus::default(),
            jobs: vec![self.job("videos").await?],
        })
    }

    async fn job(&self, name: &str) -> Result<JobStatus, HostError> {
        Self::known(name)?;
        Ok(JobStatus {
            labels: Vec::new(),
            name: name.to_owned(),
            cannot_work: None,
            paused: self.0.paused.lock().await.clone(),
            waiting: None,
            backlog: Backlog::default(),
            slot: SlotStatus::default(),
            taken: TakenStatus::default(),
            holds: 0,
            last_sweep: None,
            hindered: None,
            under_way: None,
            last_error: None,
        })
    }

    async fn tasks(&self, query: TaskQuery) -> Result<Vec<TaskView>, HostError> {
        let first = query.after.map_or(1, |after| after.0 + 1);
        Ok((first..=10).take(query.limit as usize).map(|id| Self::view(id, Some("p"))).collect())
    }

    async fn task(&self, id: TaskId) -> Result<TaskView, HostError> {
        if id.0 == 1 { Ok(Self::view(1, Some("p"))) } else { Err(HostError::UnknownTask(id)) }
    }

    async fn attempts(&self, _: TaskId) -> Result<Vec<AttemptView>, HostError> {
        let attempt = |number| AttemptView {
            number,
            started_at: Timestamp(1),
            ended_at: Timestamp(2),
            node: None,
            digest: None,
            outcome: "failed".to_owned(),
            note: None,
        };
        Ok([1, 2].map(attempt).into())
    }

    async fn nodes(&self) -> Result<Vec<NodeView>, HostError> {
        Ok(vec![NodeView {
            id: NodeId(7),
            name: "n".to_owned(),
            labels: vec!["ssd".to_owned()],
            version: "0".to_owned(),
            started_at: Timestamp(5),
            lease_until: None,
            holds: Vec::new(),
        }])
    }

    /// Task 1 is pending, 2 runs, 3 is done, all others are unknown.
    async fn intervene(&self, ask: Intervene) -> Result<Vec<Intervened>, HostError> {
        let one = |id: &TaskId| match id.0 {
            1 => Intervened::Applied { task: TaskId(11) },
            2 => Intervened::Interrupting,
            3 => Intervened::Refused { state: TaskState::Done },
            _ => Intervened::Unknown,
        };
        let answers = ask.ids.iter().map(one).collect();
        self.0.interventions.lock().await.push(ask);
        Ok(answers)
    }

    async fn intervene_where(&self, ask: ByFilter, _: Duration) -> Result<(Tally, Option<TaskId>), HostError> {
        Self::known(&ask.job)?;
        let next = if ask.after.is_none() { Some(TaskId(500)) } else { None };
        self.0.filters.lock().await.push(ask);
        Ok((Tally { applied: 500, ..Tally::default() }, next))
    }

    async fn sweep(&self, job: &str) -> Result<oneshot::Receiver<SweepReport>, HostError> {
        Self::known(job)?;
        let (send, receive) = oneshot::channel();
        let _ = send.send(SweepReport { claimed: 3, ..SweepReport::default() });
        Ok(receive)
    }

    async fn pause(&self, job: &str, reason: &str, _: Duration) -> Result<bool, HostError> {
        Self::known(job)?;
        *self.0.paused.lock().await = Some(reason.to_owned());
        Ok(reason != "hangs")
    }

    async fn resume(&self, job: &str, _: bool, _: Duration) -> Result<bool, HostError> {
        Self::known(job)?;
        let reason = self.0.paused.lock().await.take();
        Ok(reason.as_deref() != Some("hangs"))
    }

    async fn plugin(&self, job: &str) -> Result<PluginStatus, HostError> {
        Self::known(job)?;
        Ok(PluginStatus { job: job.to_owned(), slot: SlotStatus::default(), history: Vec::new() })
    }

    async fn steer(&self, job: &str, ask: Steer, patience: Duration) -> Result<(PluginStatus, bool), HostError> {
        let status = self.plugin(job).await?;
        assert!(patience > Duration::ZERO);
        let named = match &ask {
            Steer::Rollback { to, .. } => to.as_deref().unwrap_or_default(),
            Steer::Pin { digest } => digest,
            Steer::Unpin => "",
        };
        match named {
            "unknown" => return Err(SteerError::Refused(Refused::Unknown(named.to_owned())).into()),
            "nothing" => return Err(SteerError::Refused(Refused::NothingBefore).into()),
            "broken" => return Err(HostError::CannotServe { job: job.to_owned(), why: "it traps".to_owned() }),
            "disk" => return Err(SteerError::State(std::io::Error::other("/secret/path")).into()),
            "gone" => {
                let source = std::io::Error::other("/secret/path");
                return Err(SteerError::Unreadable { digest: Digest::of(b"gone"), source }.into());
            }
            _ => {}
        }
        let settled = named != "slow";
        self.0.steered.lock().await.push(ask);
        Ok((status, settled))
    }

    async fn effects(&self, query: EffectQuery) -> Result<Vec<EffectView>, HostError> {
        query.job.as_deref().map_or(Ok(()), Self::known)?;
        let view = effect();
        self.0.effects.lock().await.push(query);
        Ok(vec![view])
    }

    async fn holds(&self, job: &str) -> Result<Vec<Hold>, HostError> {
        Self::known(job)?;
        Ok(self.0.holds.lock().await.clone())
    }

    async fn add_hold(
        &self,
        job: &str,
        pattern: Pattern,
        until: Option<Timestamp>,
        why: String,
    ) -> Result<PlacedHold, HostError> {
        Self::known(job)?;
        let hold = Hold { id: HoldId(1), job: JobId(1), pattern, until, why, since: Timestamp(1) };
        self.0.holds.lock().await.push(hold.clone());
        Ok(PlacedHold::new(hold, HeldNow { complete: true, ..HeldNow::default() }))
    }

    async fn remove_hold(&self, job: &str, id: HoldId) -> Result<Hold, HostError> {
        Self::known(job)?;
        self.0.holds.lock().await.pop().filter(|hold| hold.id == id).ok_or(HostError::UnknownHold(id))
    }

    async fn mounts(&self, job: &str) -> Result<Vec<MountView>, HostError> {
        Self::known(job)?;
        Ok(Vec::new())
    }

    async fn accept_mounts(&self, job: &str, at: Option<&str>) -> Result<Vec<MountView>, HostError> {
        Self::known(job)?;
        match at {
            None | Some("/") => Ok(Vec::new()),
            Some(at) => Err(HostError::UnknownMount { job: job.to_owned(), at: at.to_owned() }),
        }
    }

    async fn trash(
        &self,
        job: &str,
        _: TrashPick,
        _: Option<EffectPlace>,
        _: u32,
    ) -> Result<Vec<EffectView>, HostError> {
        Self::known(job)?;
        Ok(vec![effect()])
    }

    async fn take_out(&self, ask: TrashAsk, _: Duration) -> Result<(Vec<TakenOut>, Option<EffectPlace>), HostError> {
        Self::known(&ask.job)?;
        let next = ask.ids.is_none().then(|| effect().place());
        let done = ask.ids.clone().unwrap_or_default().into_iter();
        self.0.taken.lock().await.push(ask);
        Ok((done.map(|id| TakenOut { id, path: None, result: TrashResult::Restored, detail: None }).collect(), next))
    }

    async fn ready(&self) -> Result<(), NotReady> {
        match self.0.not_ready.lock().await.clone() {
            None => Ok(()),
            Some(not) => Err(not),
        }
    }

    async fn jobs_not_ready(&self, only: Option<&str>) -> Result<Vec<JobNotReady>, HostError> {
        only.map_or(Ok(()), Self::known)?;
        let paused = self.0.paused.lock().await.clone();
        let why = |detail| CannotWork { reason: JobReason::Paused, detail };
        Ok(paused.map(|reason| JobNotReady { job: "videos".to_owned(), why: why(reason) }).into_iter().collect())
    }
}

/// A file that was removed into the trash.
fn effect() -> EffectView {
    let effect = Effect {
        id: EffectId { journal: 1 << 62, number: 3 },
        job: JobId(1),
        task: TaskId(7),
        attempt: 1,
        digest: Digest::of(b""),
        operation: Operation::Remove,
        mount: "/srv".into(),
        path: "a".to_owned(),
        to: None,
        to_mount: None,
        size: 10,
        allocated: 10,
        modified: Timestamp(1),
        inode: 5,
        at: Timestamp(9),
        result: EffectResult::Done,
        trashed: true,
        times: 1,
        written: 0,
    };
    EffectView { effect, job_name: "videos".to_owned(), fate: Some(Fate::Kept), fate_at: Some(Timestamp(10)) }
}
