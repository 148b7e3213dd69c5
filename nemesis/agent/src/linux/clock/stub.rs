//! The machine code that runs inside the programs: position-independent, copied from here into a page of its own.
//!
//! ```text
//! stub page   0  address of the kernel's clock_gettime     filled in for each process
//!             8  address of the kernel's gettimeofday
//!            16  code
//! next page      the shared page (`page.rs`)
//! ```
//!
//! The code calls the kernel's own function, which knows the true time, and shifts what it says. It reads a slot of the
//! shared page between two looks at the page's turn, so that it never mixes two shifts; it keeps no state, so signals and
//! threads do not matter. Time before the shift began counts as its beginning (coarse clocks lag), and no clock shows less
//! than nothing.

#![expect(unsafe_code, reason = "the bytes of assembled code are read through its symbols")]

/// Bytes of a page.
pub(super) const PAGE_LEN: usize = 4096;

std::arch::global_asm!(
    r"
    # Seen from other codegen units, and from nowhere else.
    .irp name, stub, gettime, gettimeofday, time, stub_end
    .globl squall_clock_\name
    .hidden squall_clock_\name
    .endr

    .p2align 4
squall_clock_stub:
squall_clock_original_gettime:
    .quad 0
squall_clock_original_gettimeofday:
    .quad 0

    # int clock_gettime(clockid_t edi, struct timespec *rsi)
squall_clock_gettime:
    push rbp
    push rbx
    sub rsp, 8
    mov ebp, edi
    mov rbx, rsi
    call qword ptr [rip + squall_clock_original_gettime]
    test eax, eax
    jnz 3f
    cmp ebp, {clock_max}
    ja 3f
    lea r8, [rip + squall_clock_stub + {page_len}]
2:
    movzx r9d, byte ptr [r8]
    mov r10d, r9d
    and r10d, 1
    shl r10d, {slot_shift}
    lea r10, [r8 + r10 + {slot_first}]
    # Never more than a slot can hold, whatever is read here while it is written.
    mov ecx, [r10]
    and ecx, 7
    jnz 4f
    cmp r9b, [r8]
    jne 2b
    xor eax, eax
3:
    add rsp, 8
    pop rbx
    pop rbp
    ret
4:
    imul r11, [rbx], 1000000000
    add r11, [rbx + 8]
    # [rsp]: the sum of all terms
    mov qword ptr [rsp], 0
    add r10, {term_first}
5:
    mov rax, [r10 + {clocks}]
    bt eax, ebp
    jnc 8f
    xor eax, eax
    mov rdx, r11
    sub rdx, [r10 + rbp * 8 + {base}]
    cmovs rdx, rax
    mov rax, rdx
    mov rsi, [r10 + {offset}]
    mov rdi, [r10 + {period}]
    test rdi, rdi
    jz 6f
    # Back and forth: the other offset in every odd period.
    xor edx, edx
    div rdi
    test al, 1
    cmovnz rsi, [r10 + {other}]
    jmp 7f
6:
    # elapsed * rate, in units of 2^-32
    imul qword ptr [r10 + {rate}]
    shrd rax, rdx, 32
    add rsi, rax
7:
    add [rsp], rsi
8:
    add r10, {term_len}
    dec ecx
    jnz 5b
    mov rax, [rsp]
    cmp r9b, [r8]
    jne 2b
    test rax, rax
    jz 3b
    add rax, r11
    xor edx, edx
    test rax, rax
    cmovs rax, rdx
    mov ecx, 1000000000
    div rcx
    mov [rbx], rax
    mov [rbx + 8], rdx
    xor eax, eax
    jmp 3b

    # int gettimeofday(struct timeval *rdi, struct timezone *rsi)
squall_clock_gettimeofday:
    push rbp
    push rbx
    sub rsp, 24
    mov rbx, rdi
    call qword ptr [rip + squall_clock_original_gettimeofday]
    test eax, eax
    jnz 9f
    test rbx, rbx
    jz 9f
    xor edi, edi
    mov rsi, rsp
    call squall_clock_gettime
    test eax, eax
    jnz 9f
    mov rax, [rsp]
    mov [rbx], rax
    mov rax, [rsp + 8]
    xor edx, edx
    mov ecx, 1000
    div rcx
    mov [rbx + 8], rax
    xor eax, eax
9:
    add rsp, 24
    pop rbx
    pop rbp
    ret

    # time_t time(time_t *rdi), which the kernel reads from CLOCK_REALTIME_COARSE
squall_clock_time:
    push rbx
    sub rsp, 16
    mov rbx, rdi
    mov edi, 5
    mov rsi, rsp
    call squall_clock_gettime
    mov rax, [rsp]
    test rbx, rbx
    jz 9f
    mov [rbx], rax
9:
    add rsp, 16
    pop rbx
    ret
squall_clock_stub_end:
",
    page_len = const PAGE_LEN,
    clock_max = const super::page::CLOCK_MAX,
    slot_shift = const super::page::SLOT_LEN.trailing_zeros(),
    slot_first = const super::page::SLOT_FIRST,
    term_first = const super::page::TERM_FIRST,
    term_len = const super::page::TERM_LEN,
    clocks = const super::page::CLOCKS,
    offset = const super::page::OFFSET,
    rate = const super::page::RATE,
    period = const super::page::PERIOD,
    other = const super::page::OTHER,
    base = const super::page::BASE,
);

unsafe extern "C" {
    safe static squall_clock_stub: u8;
    safe static squall_clock_gettime: u8;
    safe static squall_clock_gettimeofday: u8;
    safe static squall_clock_time: u8;
    safe static squall_clock_stub_end: u8;
}

/// Where in the stub the addresses of the kernel's functions go.
pub(super) const ORIGINAL_GETTIME: usize = 0;
/// The same for gettimeofday.
pub(super) const ORIGINAL_GETTIMEOFDAY: usize = 8;

/// The whole stub, addresses still 0.
pub(super) fn code() -> &'static [u8] {
    let len = offset(&squall_clock_stub_end);
    // SAFETY: both labels are in one block of code, this one first, and code is never written.
    unsafe { std::slice::from_raw_parts(&raw const squall_clock_stub, len) }
}

/// Where in the stub the function begins that stands in for the one of this name in the kernel's vDSO; `None` for those
/// that do not tell the time.
pub(super) fn entry(name: &str) -> Option<usize> {
    match name {
        "__vdso_clock_gettime" | "clock_gettime" => Some(offset(&squall_clock_gettime)),
        "__vdso_gettimeofday" | "gettimeofday" => Some(offset(&squall_clock_gettimeofday)),
        "__vdso_time" | "time" => Some(offset(&squall_clock_time)),
        _ => None,
    }
}

fn offset(label: &'static u8) -> usize {
    (&raw const *label).addr() - (&raw const squall_clock_stub).addr()
}
