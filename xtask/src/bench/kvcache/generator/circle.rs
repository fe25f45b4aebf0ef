//! GETs over UDP that go round: `bpf/circle.bpf.c` at the client's end of the cable rewrites each answer into the next request.
//!
//! Requests begin as frames that come from nowhere (`BPF_PROG_TEST_RUN` with live frames), as a network card's would: the
//! server's end is spared what only a cable between namespaces costs, and a request costs the client a fraction of what a socket would.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bpf_arena::arena::{Arena, UserAddr};
use bpf_arena::kernel::Attachment;
use bpf_arena::typed::{ArenaPtr, ArenaType};
use bpf_arena::{App, Engine, Object, PacketRun};
use hdrhistogram::Histogram;
use testkit::wire::End;

use super::super::data::DataSet;
use super::super::topology::{PORT, Stage, mac};
use super::udp::{Expected, Udp};
use super::{Client, PATIENCE, Plan, Sets, Totals};

/// Requests that can be on their way.
pub(in super::super) const TICKETS: usize = 256;

/// How often the thread looks at what the program does.
const LOOK: Duration = Duration::from_micros(200);

/// Frames go where the program sends them.
const LIVE_FRAMES: u32 = 1 << 1;

/// Versions that are sent before the program is told of them again.
const AHEAD: u32 = 1 << 10;

/// Where requests come from.
const SOURCE_PORT: u16 = 40_000;

#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Entry {
    length: u16,
    request_size: u8,
    line_size: u8,
    unused: u32,
    request: [u8; 56],
    line: [u8; 64],
}

#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Ticket {
    key: u32,
    generation: u32,
    turns: u64,
}

#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Circle {
    headers: [u8; 64],
    sum: u32,
    device: u32,
    is_open: u32,
    goes_on: u32,
    is_echo: u32,
    newest: u32,
    entries: u32,
    order: u32,
    pool: u32,
    order_mask: u32,
    pool_mask: u32,
    next: u32,
    last: u32,
    unused: u32,
    position: u64,
    until: u64,
    hits: u64,
    misses: u64,
    wrong: u64,
    late: u64,
    stuck: u64,
    tickets: [Ticket; TICKETS],
}

/// The program, with the data set in its arena, attached at the client's end.
pub(in super::super) struct Generator<'a> {
    app: App,
    stage: &'a Stage,
    at: ArenaPtr<Circle>,
    /// The generation of the latest tickets.
    begun: AtomicU32,
    _attached: Attachment,
}

impl<'a> Generator<'a> {
    pub(in super::super) fn new(stage: &'a Stage, data: &DataSet) -> anyhow::Result<Self> {
        let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpf/circle.bpf.o");
        let app = Object::open(&object)?.load(Engine::kernel()?)?;
        let at: ArenaPtr<Circle> = app.global_ptr("circle")?;
        let arena = app.arena()?;
        let offset = |of: u64| u32::try_from(of - at.raw());
        let entries: ArenaPtr<Entry> = arena.alloc_array(data.keys())?;
        for key in 0..data.keys() {
            arena.write(entries.add(key.into()), entry(data, key))?;
        }
        let gets = data.gets();
        let order: ArenaPtr<u32> = arena.alloc_array(u32::try_from(gets.len())?)?;
        let bytes: Vec<u8> = gets.iter().flat_map(|key| key.to_le_bytes()).collect();
        arena.write_bytes(UserAddr::new(order.raw()), &bytes)?;
        let (pool, starts) = data.pool();
        // Whole words are read, also of the last.
        let pool_at: ArenaPtr<u8> = arena.alloc_array(u32::try_from(pool.len() + 8)?)?;
        arena.write_bytes(UserAddr::new(pool_at.raw()), pool)?;
        let headers = headers();
        let sum = headers.get(14..34).unwrap_or_default().chunks(2);
        let sum = sum.map(|pair| pair.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))).sum();
        let device = stage.interface(End::Client)?;
        arena.write(at.field(Circle::headers), headers)?;
        for (field, value) in [
            (Circle::sum, sum),
            (Circle::device, device),
            (Circle::entries, offset(entries.raw())?),
            (Circle::order, offset(order.raw())?),
            (Circle::pool, offset(pool_at.raw())?),
            (Circle::order_mask, u32::try_from(gets.len() - 1)?),
            (Circle::pool_mask, u32::try_from(starts - 1)?),
        ] {
            arena.write(at.field(field), value)?;
        }
        let attached = stage.attach(End::Client, app.program("turn")?)?;
        Ok(Self { app, stage, at, begun: AtomicU32::new(0), _attached: attached })
    }

    fn arena(&self) -> anyhow::Result<&Arena> {
        Ok(self.app.arena()?)
    }

    /// Sends requests under tickets that are free.
    fn begin(&self, tickets: std::ops::Range<u32>) -> anyhow::Result<()> {
        if tickets.is_empty() {
            return Ok(());
        }
        let arena = self.arena()?;
        // One of 255, so that it is never none, and not soon the same again: what comes too late must not be taken for an answer.
        let generation = self.begun.fetch_add(1, Ordering::Relaxed) % 255 + 1;
        for number in tickets.clone() {
            arena.write(self.ticket(number)?.field(Ticket::generation), generation)?;
        }
        arena.write(self.at.field(Circle::next), tickets.start)?;
        arena.write(self.at.field(Circle::last), tickets.end)?;
        let program = self.app.program("begin")?;
        let frame = [0; 128];
        // One by one: for more at a time the kernel has its dispatcher of programs rewritten, and waits for all processors twice.
        let send = || {
            tickets.into_iter().try_for_each(|_| {
                let mut run =
                    PacketRun { data: &frame, repeat: 1, flags: LIVE_FRAMES, ..PacketRun::default() };
                program.run_packet(&mut run).map(|_| ())
            })
        };
        self.stage.at(End::Client, send)?.context("frames that come from nowhere (Linux 5.18)")?;
        Ok(())
    }

    /// Sends requests under those of the first tickets that are free, range by range.
    fn begin_again(&self, window: usize) -> anyhow::Result<()> {
        let mut free = 0..0;
        for number in 0..u32::try_from(window)? {
            if self.arena()?.read(self.ticket(number)?.field(Ticket::generation))? != 0 {
                continue;
            }
            if free.end != number {
                self.begin(free)?;
                free = number..number;
            }
            free.end = number + 1;
        }
        self.begin(free)
    }

    fn ticket(&self, number: u32) -> anyhow::Result<ArenaPtr<Ticket>> {
        let tickets = self.at.field(Circle::tickets);
        tickets.element(usize::try_from(number)?).context("no such ticket")
    }

    fn set(&self, field: bpf_arena::typed::Field<Circle, u32>, value: u32) -> anyhow::Result<()> {
        Ok(self.arena()?.store_release(self.at.field(field), value)?)
    }

    /// What the program has counted so far.
    fn counted(&self) -> anyhow::Result<Totals> {
        let count = |field| -> anyhow::Result<u64> { Ok(self.arena()?.load_acquire(self.at.field(field))?) };
        Ok(Totals {
            hits: count(Circle::hits)?,
            misses: count(Circle::misses)?,
            wrong: count(Circle::wrong)?,
            ..Totals::default()
        })
    }
}

/// Requests that go round, SETs beside them, and a socket for what is asked one by one.
pub(in super::super) struct Round<'a> {
    generator: &'a Generator<'a>,
    sets: Option<Sets<'a>>,
    udp: Udp<'a>,
}

impl<'a> Round<'a> {
    /// To be called at the client's end. Without `sets` nothing is stored, and answers are requests as they were sent.
    pub(in super::super) fn new(
        generator: &'a Generator<'a>,
        data: &'a DataSet,
        sets: Option<Sets<'a>>,
    ) -> anyhow::Result<Self> {
        let expected = if sets.is_some() { Expected::Value } else { Expected::Echo };
        let udp = Udp::new(data, generator.stage.address(), expected)?;
        generator.set(Circle::is_echo, u32::from(sets.is_none()))?;
        Ok(Self { generator, sets, udp })
    }

    fn newest(&self) -> u32 {
        self.sets.as_ref().map_or(0, Sets::newest)
    }

    /// Looks on until the time is over; gives how many requests were lost.
    fn look_on(&mut self, plan: &Plan<'_>, totals: &mut Totals, before: &Totals) -> anyhow::Result<()> {
        let end = plan.end();
        let arena = self.generator.arena()?;
        let at = self.generator.at;
        let start = arena.read(at.field(Circle::position))?;
        let mut seen = 0;
        let mut watch = Watch::new(self.generator, plan.window)?;
        while let Some(now) = plan.now(end)? {
            std::thread::sleep(LOOK);
            if plan.is_mixed
                && let Some(sets) = &mut self.sets
            {
                let answered = self.generator.counted()?.answered() - before.answered();
                self.generator.set(Circle::newest, sets.newest() + AHEAD)?;
                sets.turn(answered - seen, totals)?;
                seen = answered;
                // GETs wait for the SETs that go with them.
                let until = start + sets.gets_until(totals);
                arena.write(at.field(Circle::until), until)?;
                if until > arena.read(at.field(Circle::position))? + u64::from(AHEAD) {
                    self.generator.begin_again(plan.window)?;
                }
            }
            for number in watch.lost(now)? {
                totals.lost += 1;
                self.generator.begin(number..number + 1)?;
            }
        }
        Ok(())
    }

    /// Waits for what is still on its way; what does not come is lost.
    fn wind_up(&self, window: u32) -> anyhow::Result<u64> {
        let generator = self.generator;
        let arena = generator.arena()?;
        generator.set(Circle::goes_on, 0)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let mut waiting = Vec::new();
            for number in 0..window {
                let generation = generator.ticket(number)?.field(Ticket::generation);
                waiting.extend((arena.read(generation)? != 0).then_some(generation));
            }
            if waiting.is_empty() || Instant::now() >= end {
                for generation in &waiting {
                    arena.write(*generation, 0)?;
                }
                return Ok(waiting.len() as u64);
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Client for Round<'_> {
    fn load(&mut self, plan: &Plan<'_>) -> anyhow::Result<Totals> {
        let generator = self.generator;
        let window = u32::try_from(plan.window)?;
        ensure!(plan.window < TICKETS, "at most {} requests can be on their way", TICKETS - 1);
        let (mut totals, before) = (Totals::default(), generator.counted()?);
        generator.set(Circle::newest, self.newest() + AHEAD)?;
        // The mixed load sets its own limit.
        let arena = generator.arena()?;
        let position = arena.read(generator.at.field(Circle::position))?;
        let first = self.sets.as_ref().filter(|_| plan.is_mixed).map(|sets| sets.gets_until(&totals));
        let until = first.map_or(u64::MAX, |gets| position + gets);
        arena.write(generator.at.field(Circle::until), until)?;
        generator.set(Circle::goes_on, 1)?;
        generator.set(Circle::is_open, 1)?;
        generator.begin(0..window)?;
        let looked = self.look_on(plan, &mut totals, &before);
        totals.lost += self.wind_up(window)?;
        generator.set(Circle::is_open, 0)?;
        looked?;
        let after = generator.counted()?;
        totals.hits = after.hits - before.hits;
        totals.misses = after.misses - before.misses;
        totals.wrong = after.wrong - before.wrong;
        if let Some(sets) = &mut self.sets {
            sets.finish(&mut totals)?;
        }
        Ok(totals)
    }

    fn one_by_one(&mut self, plan: &Plan<'_>, times: &mut Histogram<u64>) -> anyhow::Result<Totals> {
        let newest = self.newest();
        self.udp.one_by_one(plan, newest, times)
    }
}

/// Tells which requests do not come back.
struct Watch<'a> {
    generator: &'a Generator<'a>,
    turns: Vec<u64>,
    next: Instant,
}

impl<'a> Watch<'a> {
    fn new(generator: &'a Generator<'a>, window: usize) -> anyhow::Result<Self> {
        Ok(Self { generator, turns: vec![u64::MAX; window], next: Instant::now() + PATIENCE })
    }

    /// Tickets whose requests have not been answered since the last time, which was long enough ago.
    fn lost(&mut self, now: Instant) -> anyhow::Result<Vec<u32>> {
        let mut lost = Vec::new();
        if now < self.next {
            return Ok(lost);
        }
        self.next = now + PATIENCE;
        let arena = self.generator.arena()?;
        for (number, before) in (0..).zip(&mut self.turns) {
            let ticket = arena.read(self.generator.ticket(number)?)?;
            let turns = ticket.turns;
            // Those that wait for SETs are not on their way.
            lost.extend((turns == *before && ticket.generation != 0).then_some(number));
            *before = turns;
        }
        Ok(lost)
    }
}

fn entry(data: &DataSet, key: u32) -> Entry {
    let mut entry = Entry {
        length: data.length(key),
        request_size: 0,
        line_size: 0,
        unused: 0,
        request: [0; 56],
        line: [0; 64],
    };
    let put = |to: &mut [u8], from: &[u8]| {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        u8::try_from(from.len()).unwrap_or(0)
    };
    entry.request_size = put(&mut entry.request, data.request(key));
    entry.line_size = put(&mut entry.line, &data.line(key));
    entry
}

/// Ethernet, IPv4, UDP and memcached's frame of a request; lengths, sum and number are left open.
fn headers() -> [u8; 64] {
    let [server, client]: [Ipv4Addr; 2] = [End::Server.v4(), End::Client.v4()];
    let parts: [&[u8]; 9] = [
        &mac(End::Server),
        &mac(End::Client),
        &[8, 0],
        &[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0],
        &client.octets(),
        &server.octets(),
        &SOURCE_PORT.to_be_bytes(),
        &PORT.to_be_bytes(),
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    ];
    let mut headers = [0; 64];
    headers.iter_mut().zip(parts.concat()).for_each(|(to, from)| *to = from);
    headers
}
