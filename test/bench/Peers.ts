/** Programs of others that pass visitors on to an app, where they are installed: each set as its manual advises for this, on loopback. */
import { execFileSync } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir, userInfo } from "node:os"
import { join } from "node:path"
import { Data, Effect } from "effect"
import { findProgram, type Program } from "../Debian.ts"
import { listen } from "../socket/Loopback.ts"
import * as Processes from "./Processes.ts"

/** What a way needs is not installed here. */
export class NotInstalled extends Data.TaggedError("NotInstalled")<{ readonly message: string }> {}

const programs = {
  nginx: { package: "nginx-light", candidates: ["nginx", "/usr/sbin/nginx"], args: ["-v"] },
  // Sshd insists on its full path.
  sshd: { package: "openssh-server", candidates: ["/usr/sbin/sshd"], args: ["-V"] },
  ssh: { package: "openssh-client", candidates: ["ssh"], args: ["-V"] },
  keygen: { package: "openssh-client", candidates: ["ssh-keygen"], args: ["-?"] }
} satisfies Record<string, Program>

const find = (name: keyof typeof programs) =>
  Effect.suspend(() => {
    const command = findProgram(programs[name])
    return command === undefined
      ? Effect.fail(new NotInstalled({ message: `not installed (apt-get install ${programs[name].package})` }))
      : Effect.succeed(command)
  })

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "wayleave-bench-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

/** A port that was free just now, for a program that cannot choose one itself. */
const freePort = Effect.scoped(listen(createServer()))

const accepts = (port: number) =>
  Effect.tryPromise({
    try: async () => {
      const until = performance.now() + 10_000
      for (;;) {
        try {
          return await Processes.connects(port)
        } catch (error) {
          if (performance.now() > until) throw error
        }
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    },
    catch: (cause) => new Processes.ProcessFailed({ message: `nothing listens on ${port}: ${cause}` })
  })

/** Bodies pass through unbuffered, as a tunnel's do, and connections to the app are kept. */
const nginxConfig = (dir: string, port: number, appPort: number, user: string) => `
daemon off;
pid ${dir}/nginx.pid;
error_log stderr error;
worker_processes auto;
${user}
events { worker_connections 8192; }
http {
  access_log off;
  keepalive_requests 1000000;
  client_max_body_size 0;
  client_body_temp_path ${dir}/body;
  proxy_temp_path ${dir}/proxy;
  fastcgi_temp_path ${dir}/fastcgi;
  uwsgi_temp_path ${dir}/uwsgi;
  scgi_temp_path ${dir}/scgi;
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  upstream app { server 127.0.0.1:${appPort}; keepalive 1024; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    tcp_nodelay on;
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_read_timeout 1h;
    }
  }
}
`

/** Nginx as a reverse proxy: what passing requests on costs where nothing is tunnelled. */
export const nginx = Effect.fnUntraced(function* (appPort: number) {
  const command = yield* find("nginx")
  const dir = yield* directory
  const port = yield* freePort
  const config = join(dir, "nginx.conf")
  const user = userInfo().uid === 0 ? "user root;" : ""
  writeFileSync(config, nginxConfig(dir, port, appPort, user))
  const process = yield* Processes.start({ label: "nginx", command, args: ["-p", dir, "-c", config] })
  yield* accepts(port)
  return { place: { port, host: "app" }, tunnel: [process] }
})

/** Two of them in line: as many connections and copies as a tunnel to a local port has, at the least a machine can do them for. */
export const nginxTwice = Effect.fnUntraced(function* (appPort: number) {
  const inner = yield* nginx(appPort)
  const outer = yield* nginx(inner.place.port)
  return { place: outer.place, tunnel: [...outer.tunnel, ...inner.tunnel] }
})

/** OpenSSH's remote forwarding: a tunnel that knows nothing of what it carries. */
export const ssh = Effect.fnUntraced(function* (appPort: number) {
  const server = yield* find("sshd")
  const client = yield* find("ssh")
  const keygen = yield* find("keygen")
  const dir = yield* directory
  for (const key of ["host", "user"])
    execFileSync(keygen, ["-q", "-t", "ed25519", "-N", "", "-f", join(dir, key)], { stdio: "ignore" })
  if (userInfo().uid === 0) mkdirSync("/run/sshd", { recursive: true, mode: 0o755 })
  const serverPort = yield* freePort
  const port = yield* freePort
  const config = join(dir, "sshd_config")
  const lines = [
    `ListenAddress 127.0.0.1:${serverPort}`,
    `HostKey ${join(dir, "host")}`,
    `AuthorizedKeysFile ${join(dir, "user.pub")}`,
    `PidFile ${join(dir, "sshd.pid")}`,
    "PermitRootLogin prohibit-password",
    "PasswordAuthentication no",
    "StrictModes no",
    "UsePAM no"
  ]
  writeFileSync(config, `${lines.join("\n")}\n`)
  const args = ["-D", "-e", "-f", config]
  const sshd = yield* Processes.start({ label: "sshd", command: server, args, ready: /Server listening/ })
  const forward = [
    "-N",
    "-F",
    "none",
    ...["-i", join(dir, "user")],
    ...["-p", String(serverPort)],
    ...["-o", "ExitOnForwardFailure=yes"],
    ...["-o", "StrictHostKeyChecking=no"],
    ...["-o", `UserKnownHostsFile=${join(dir, "known_hosts")}`],
    ...["-o", "IdentitiesOnly=yes"],
    ...["-R", `127.0.0.1:${port}:127.0.0.1:${appPort}`],
    `${userInfo().username}@127.0.0.1`
  ]
  const tunnel = yield* Processes.start({ label: "ssh", command: client, args: forward })
  yield* accepts(port)
  return { place: { port, host: "app" }, tunnel: [sshd, tunnel] }
})
