"""Rights in Redis: one user per role, each with the commands and keys it needs and nothing else."""

import hashlib
from collections.abc import Mapping
from enum import StrEnum

from common.directory.keys import Keys


class RedisUser(StrEnum):
    """The users of one cluster."""

    WORKER = "worker"
    ROUTER = "router"
    PLANNER = "planner"

    @property
    def login(self) -> str:
        return f"baton-{self.value}"


_CONNECTION = "+auth +ping +select +client|setname +quit"
_TRANSACTION = "+multi +exec +discard +watch +unwatch"
_COMMANDS = {
    RedisUser.WORKER: f"{_CONNECTION} {_TRANSACTION} +get +smembers +set +del +pexpire +sadd +srem +xadd",
    RedisUser.ROUTER: f"{_CONNECTION} {_TRANSACTION} +get +mget +smembers +xrange +xrevrange +set +del +pexpire +sadd "
    "+srem +info",
    RedisUser.PLANNER: f"{_CONNECTION} +mget +smembers",
}


def _patterns(user: RedisUser, keys: Keys) -> str:
    """Key patterns; %R~ may only be read."""
    prefix = keys.prefix
    match user:
        case RedisUser.WORKER:
            return f"~{prefix}worker:* ~{prefix}owned:* ~{keys.workers} ~{keys.events}"
        case RedisUser.ROUTER:
            return (
                f"%R~{prefix}worker:* %R~{prefix}owned:* %R~{keys.workers} %R~{keys.events} "
                f"~{prefix}queue:* ~{keys.routers}"
            )
        case RedisUser.PLANNER:
            return f"%R~{prefix}worker:* %R~{keys.workers} %R~{prefix}queue:* %R~{keys.routers}"


def acl_lines(cluster: str, passwords: Mapping[RedisUser, str]) -> tuple[str, ...]:
    """Lines for an ACL file. Passwords appear as SHA-256 only; the default user is off."""
    keys = Keys(cluster)
    users = [
        f"user {user.login} reset on #{hashlib.sha256(password.encode()).hexdigest()} "
        f"{_patterns(user, keys)} resetchannels -@all {_COMMANDS[user]}"
        for user, password in passwords.items()
    ]
    return ("user default reset off", *users)


def role_password(secret: bytes, user: RedisUser) -> str:
    """A user's password derived from the cluster secret: nothing more to hand out or to lose."""
    assert secret, "a password needs a secret"
    return hashlib.blake2b(user.value.encode(), key=secret[:64], digest_size=32, person=b"baton.redis.1").hexdigest()
