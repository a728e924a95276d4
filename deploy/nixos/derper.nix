# A module for NixOS. Its authors have not run it: the settings are those of
# deploy/systemd/derper.service, which are tested.
#
#   imports = [ ./derper.nix ];
#   services.derpkit = {
#     enable = true;
#     package = pkgs.callPackage ./package.nix { };     # a program built from this repository
#     settings = {
#       hostname = "derp.example.com";
#     };
#   };
{ config, lib, pkgs, ... }:

let
  cfg = config.services.derpkit;
  file = (pkgs.formats.toml { }).generate "derper.toml" cfg.settings;
in
{
  options.services.derpkit = {
    enable = lib.mkEnableOption "the DERP relay derper";
    package = lib.mkOption {
      type = lib.types.package;
      description = "The package with bin/derper.";
    };
    settings = lib.mkOption {
      type = lib.types.attrs;
      default = { };
      description = "The configuration file; `derper config example` prints all of it.";
    };
    environmentFile = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      description = "Variables that are secrets, such as a token of a verifier.";
    };
    openFirewall = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = "Opens TCP 80 and 443, and UDP 3478.";
    };
  };

  config = lib.mkIf cfg.enable {
    networking.firewall = lib.mkIf cfg.openFirewall {
      allowedTCPPorts = [ 80 443 ];
      allowedUDPPorts = [ 3478 ];
    };

    systemd.services.derper = {
      description = "DERP relay for Tailscale and Headscale networks";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" "tailscaled.service" ];
      # All mistakes at once, in the journal.
      preStart = "${cfg.package}/bin/derper check-config --config ${file}";
      environment = {
        DERPER_STATE_DIR = "/var/lib/derper";
        XDG_CACHE_HOME = "/var/lib/derper";
      };
      serviceConfig = {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = "${cfg.package}/bin/derper --config ${file}";
        ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
        EnvironmentFile = lib.optional (cfg.environmentFile != null) cfg.environmentFile;
        Restart = "on-failure";
        RestartSec = "2s";
        WatchdogSec = "60s";
        TimeoutStopSec = "60s";
        LimitNOFILE = 1048576;
        DynamicUser = true;
        User = "derper";
        StateDirectory = "derper";
        StateDirectoryMode = "0700";
        RuntimeDirectory = "derper";
        UMask = "0077";
        AmbientCapabilities = [ "CAP_NET_BIND_SERVICE" ];
        CapabilityBoundingSet = [ "CAP_NET_BIND_SERVICE" ];
        NoNewPrivileges = true;
        ProtectSystem = "strict";
        ProtectHome = true;
        ProtectProc = "invisible";
        ProcSubset = "pid";
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        PrivateDevices = true;
        DevicePolicy = "closed";
        PrivateTmp = true;
        PrivateMounts = true;
        RemoveIPC = true;
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        RestrictAddressFamilies = [ "AF_INET" "AF_INET6" "AF_UNIX" "AF_NETLINK" ];
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        SystemCallArchitectures = "native";
        SystemCallFilter = [
          "@system-service"
          "~@privileged @resources"
          "setpriority prlimit64 setrlimit"
        ];
        SystemCallErrorNumber = "EPERM";
      };
    };
  };
}
